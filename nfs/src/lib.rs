//! The NFS door.
