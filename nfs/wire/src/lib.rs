//! The messages of NFSv3, MOUNT v3, RPC and the portmapper.
//!
//! Pure: bytes in, values out and back. Values borrow from the buffer they were read from, so reading a call allocates
//! nothing, whatever lengths it announces. Sockets, handles' meaning and rights belong to the door.

pub mod mount;
pub mod nfs3;
pub mod portmap;
pub mod record;
pub mod rpc;
pub mod xdr;

pub use xdr::{Decoder, Encoder, Wire, XdrError};
