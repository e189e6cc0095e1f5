//! The messages of NFSv3, MOUNT v3, RPC and the portmapper.
