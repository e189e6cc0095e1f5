//! MOUNT version 3: how a client gets its first handle (RFC 1813 Appendix I).

use crate::{Decoder, Encoder, XdrError, nfs3::Handle, xdr::wire_enum};

/// The program's number.
pub const PROGRAM: u32 = 100_005;

/// The program's version.
pub const VERSION: u32 = 3;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: u32 = 1024;

/// The most flavors that are read from a reply.
const FLAVORS_MAX: u32 = 16;

wire_enum! {
    /// What can be asked of it.
    pub enum Procedure {
        /// Nothing.
        Null = 0,
        /// The handle of a path.
        Mount = 1,
        /// Who has mounted what.
        Dump = 2,
        /// A path is not used any more.
        Unmount = 3,
        /// None is used any more.
        UnmountAll = 4,
        /// What can be mounted.
        Export = 5,
    }
}

wire_enum! {
    /// Why a path was not mounted.
    pub enum MountError {
        /// Not the owner.
        NotPermitted = 1,
        /// No such path.
        NotFound = 2,
        /// The server's disk.
        Io = 5,
        /// Not allowed.
        Access = 13,
        /// Not a folder.
        NotFolder = 20,
        /// An argument that cannot be.
        Invalid = 22,
        /// A path too long.
        NameTooLong = 63,
        /// The server does not do that.
        NotSupported = 10_004,
        /// The server is not able to.
        ServerFault = 10_006,
    }
}

/// Reads the path of [`Procedure::Mount`] and [`Procedure::Unmount`].
pub fn decode_path<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], XdrError> {
    decoder.opaque(PATH_BYTES_MAX)
}

/// Appends the result of [`Procedure::Mount`]: a handle that AUTH_SYS may use.
pub fn encode_mounted(encoder: &mut Encoder<'_>, mounted: Result<Handle<'_>, MountError>) {
    match mounted {
        Ok(handle) => {
            encoder.u32(0);
            encoder.value(&handle);
            // One flavor, AUTH_SYS.
            encoder.u32(1);
            encoder.u32(1);
        }
        Err(error) => encoder.value(&error),
    }
}

/// Reads the result of [`Procedure::Mount`].
pub fn decode_mounted<'a>(
    decoder: &mut Decoder<'a>,
) -> Result<Result<Handle<'a>, MountError>, XdrError> {
    match decoder.u32()? {
        0 => {
            let handle = decoder.value()?;
            let flavors = decoder.u32()?;
            if flavors > FLAVORS_MAX {
                return Err(XdrError::TooLong { len: flavors, max: FLAVORS_MAX });
            }
            for _ in 0..flavors {
                decoder.u32()?;
            }
            Ok(Ok(handle))
        }
        number => MountError::from_number(number).map(Err).ok_or(XdrError::Unknown(number)),
    }
}

/// Appends the result of [`Procedure::Dump`] or [`Procedure::Export`] that tells nothing.
pub fn encode_empty_list(encoder: &mut Encoder<'_>) {
    encoder.value(&false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_back() {
        let handle = Handle::new(b"abcde").unwrap();
        let mut results = vec![Ok(handle)];
        results.extend(MountError::ALL.iter().map(|error| Err(*error)));
        for result in results {
            let mut out = vec![];
            encode_mounted(&mut Encoder::new(&mut out), result);
            let mut decoder = Decoder::new(&out);
            assert_eq!(decode_mounted(&mut decoder), Ok(result));
            assert!(decoder.rest().is_empty());
        }
    }

    #[test]
    fn paths_have_a_limit() {
        let mut out = vec![];
        Encoder::new(&mut out).opaque(&[b'x'; 1025]);
        assert!(decode_path(&mut Decoder::new(&out)).is_err());
    }
}
