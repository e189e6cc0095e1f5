//! The portmapper, version 2: where a program listens (RFC 1833 §3).

use crate::{
    Decoder, Encoder, XdrError,
    xdr::{wire_enum, wire_struct},
};

/// The program's number.
pub const PROGRAM: u32 = 100_000;

/// The program's version.
pub const VERSION: u32 = 2;

/// The number of TCP among the protocols.
pub const TCP: u32 = 6;

/// The most rows that are read from a reply.
const ROWS_MAX: usize = 1024;

wire_enum! {
    /// What can be asked of it; programs cannot register themselves here.
    pub enum Procedure {
        /// Nothing.
        Null = 0,
        /// Where a program listens.
        Port = 3,
        /// Where all of them listen.
        Dump = 4,
    }
}

wire_struct! {
    /// Where a program listens.
    pub struct Mapping {
        /// The program.
        pub program: u32,
        /// Its version.
        pub version: u32,
        /// [`TCP`], or another protocol.
        pub protocol: u32,
        /// The port; zero in questions, and where there is none.
        pub port: u32,
    }
}

/// Appends the result of [`Procedure::Dump`].
pub fn encode_mappings(encoder: &mut Encoder<'_>, mappings: &[Mapping]) {
    for mapping in mappings {
        encoder.value(&Some(*mapping));
    }
    encoder.value(&None::<Mapping>);
}

/// Reads the result of [`Procedure::Dump`].
pub fn decode_mappings(decoder: &mut Decoder<'_>) -> Result<Vec<Mapping>, XdrError> {
    let mut mappings = vec![];
    while let Some(mapping) = decoder.value()? {
        if mappings.len() >= ROWS_MAX {
            return Err(XdrError::TooLong { len: 1025, max: 1024 });
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_read_back() {
        let row = |program| Mapping { program, version: 3, protocol: TCP, port: 2049 };
        let rows = vec![row(100_003), row(100_005)];
        let mut out = vec![];
        encode_mappings(&mut Encoder::new(&mut out), &rows);
        assert_eq!(decode_mappings(&mut Decoder::new(&out)), Ok(rows));
    }
}
