//! The NFS door: shares as network drives for NFSv3 clients.
//!
//! NFS, MOUNT and the portmapper answer on one TCP port. Who asks is decided by the session inside each handle, never by
//! what the client claims; what may be seen is decided by the namespace. The drive is read-only, but for moving an old
//! version onto a live name, which asks the set's master to write it back.
//!
//! One thread per connection: a call that waits for a disk, and a client that does not read its answers, keep nobody
//! else waiting.

mod attributes;
mod buffers;
mod calls;
mod connection;
mod context;
mod handle;
mod limits;
mod mount;
mod registry;
mod restores;
mod server;
mod shares;

pub use limits::Limits;
pub use registry::ClientInfo;
pub use server::{Parts, Server};
pub use shares::Shares;
