//! XDR, the encoding of RPC: everything big-endian and in units of four bytes (RFC 4506).

/// Why bytes are not what was expected of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum XdrError {
    /// The bytes end before the value does.
    #[error("the message ends too early")]
    Short,
    /// A length beyond the limit of its field.
    #[error("a field of {len} is longer than {max}")]
    TooLong {
        /// What was announced.
        len: u32,
        /// What is allowed.
        max: u32,
    },
    /// A number that stands for nothing.
    #[error("{0} is none of the known values")]
    Unknown(u32),
}

/// Reads values from the front of a slice, and borrows from it.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Returns a decoder of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns what was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads any value.
    pub fn value<T: Wire<'a>>(&mut self) -> Result<T, XdrError> {
        T::decode(self)
    }

    /// Reads an unsigned number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads an unsigned number of 64 bits.
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads exactly `N` bytes; `N` is a multiple of four wherever NFS uses this.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(XdrError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads bytes of announced length, at most `max`, and the padding after them.
    pub fn opaque(&mut self, max: u32) -> Result<&'a [u8], XdrError> {
        let len = self.u32()?;
        if len > max {
            return Err(XdrError::TooLong { len, max });
        }
        let len = usize::try_from(len).map_err(|_| XdrError::Short)?;
        // The last field's padding may not go beyond what is there.
        let padded = len.checked_next_multiple_of(4).ok_or(XdrError::Short)?;
        let (padded, rest) = self.rest.split_at_checked(padded).ok_or(XdrError::Short)?;
        self.rest = rest;
        Ok(&padded[..len])
    }
}

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Encoder<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Encoder<'b> {
    /// Returns an encoder that appends to `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Returns the length of the whole buffer: a place to come back to.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Tells whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes back everything after a place that [`Self::len`] gave.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Appends any value.
    pub fn value<'a, T: Wire<'a>>(&mut self, value: &T) {
        value.encode(self);
    }

    /// Appends an unsigned number of 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends an unsigned number of 64 bits.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends bytes as they are.
    pub fn array(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends the length of `bytes`, the bytes, and padding.
    pub fn opaque(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("no field of ours comes near 4 GiB");
        self.u32(len);
        self.array(bytes);
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.array(&[0; 3][..padding]);
    }

    /// Appends bytes that `append` appends itself, such as those of a file, without a copy of them in between; they are
    /// not padded.
    pub fn append<T>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        append(self.out)
    }

    /// Writes bytes over as many at a place that [`Self::len`] gave before they were appended.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes a number over four bytes at a place that [`Self::len`] gave before they were appended.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// A value with an encoding.
pub trait Wire<'a>: Sized {
    /// Appends the value.
    fn encode(&self, encoder: &mut Encoder<'_>);
    /// Reads a value.
    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, XdrError>;
}

impl Wire<'_> for () {
    fn encode(&self, _: &mut Encoder<'_>) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(())
    }
}

impl Wire<'_> for u32 {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.u32(*self);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        decoder.u32()
    }
}

impl Wire<'_> for u64 {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.u64(*self);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        decoder.u64()
    }
}

impl Wire<'_> for bool {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.u32(u32::from(*self));
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        match decoder.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::Unknown(other)),
        }
    }
}

/// Eight bytes that mean something to the server alone: verifiers of cookies, writes and creations.
impl Wire<'_> for [u8; 8] {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.array(self);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        decoder.array()
    }
}

/// Names, paths and contents: bounded by the record alone.
impl<'a> Wire<'a> for &'a [u8] {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.opaque(self);
    }

    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, XdrError> {
        decoder.opaque(u32::MAX)
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.is_some().encode(encoder);
        if let Some(value) = self {
            value.encode(encoder);
        }
    }

    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, XdrError> {
        if bool::decode(decoder)? { T::decode(decoder).map(Some) } else { Ok(None) }
    }
}

/// Defines a structure whose encoding is its fields' in order.
macro_rules! wire_struct {
    ($(#[$doc:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$field_doc:meta])* pub $field:ident: $kind:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        $crate::xdr::wire_struct!(@impl $name [$($life)?] { $($field)* });
    };
    (@impl $name:ident [] { $($field:ident)* }) => {
        impl $crate::Wire<'_> for $name {
            $crate::xdr::wire_struct!(@body ['_] { $($field)* });
        }
    };
    (@impl $name:ident [$life:lifetime] { $($field:ident)* }) => {
        impl<$life> $crate::Wire<$life> for $name<$life> {
            $crate::xdr::wire_struct!(@body [$life] { $($field)* });
        }
    };
    (@body [$life:lifetime] { $($field:ident)* }) => {
        fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
            $(self.$field.encode(encoder);)*
        }

        fn decode(decoder: &mut $crate::Decoder<$life>) -> Result<Self, $crate::XdrError> {
            Ok(Self { $($field: decoder.value()?,)* })
        }
    };
}

/// Defines an enumeration that travels as a number.
macro_rules! wire_enum {
    ($(#[$doc:meta])* pub enum $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the value with this number.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the number.
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }
        }

        impl $crate::Wire<'_> for $name {
            fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
                encoder.u32(self.number());
            }

            fn decode(decoder: &mut $crate::Decoder<'_>) -> Result<Self, $crate::XdrError> {
                let number = decoder.u32()?;
                Self::from_number(number).ok_or($crate::XdrError::Unknown(number))
            }
        }
    };
}

pub(crate) use {wire_enum, wire_struct};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_bytes_are_padded_to_four() {
        for len in 0..9 {
            let bytes = vec![7; len];
            let mut out = vec![];
            Encoder::new(&mut out).opaque(&bytes);
            assert_eq!(out.len(), 4 + len.next_multiple_of(4));
            let mut decoder = Decoder::new(&out);
            assert_eq!(decoder.opaque(8), Ok(&bytes[..]));
            assert!(decoder.rest().is_empty());
        }
    }

    /// An announced length is worth nothing until the bytes are there.
    #[test]
    fn a_length_beyond_the_message_is_refused() {
        let announced = [0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert_eq!(Decoder::new(&announced).opaque(u32::MAX), Err(XdrError::Short));
        let error = XdrError::TooLong { len: u32::MAX, max: 64 };
        assert_eq!(Decoder::new(&announced).opaque(64), Err(error));
        assert_eq!(Decoder::new(&[0, 0, 0, 3, 1, 2, 3]).opaque(3), Err(XdrError::Short));
    }

    #[test]
    fn a_flag_is_zero_or_one() {
        assert_eq!(Decoder::new(&[0, 0, 0, 2]).value::<bool>(), Err(XdrError::Unknown(2)));
        assert_eq!(Decoder::new(&[0, 0, 0, 1, 0, 0, 0, 9]).value(), Ok(Some(9_u32)));
    }
}
