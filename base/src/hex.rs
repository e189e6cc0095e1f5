//! Numbers and hashes that are shown as hexadecimal digits.

use std::fmt;

use data_encoding::HEXLOWER;

/// Shows bytes as hexadecimal digits, in small letters.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(self.0))
    }
}

/// Has types that wrap bytes shown as [`Hex`] does.
#[macro_export]
macro_rules! shown_as_hex {
    ($($name:ident)*) => {$(
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&$crate::Hex(&self.0), f)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )*};
}
