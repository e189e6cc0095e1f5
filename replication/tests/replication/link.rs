//! Links and joins over real sockets on the loopback device.

mod bounds;
mod hostile;
mod joins;
mod links;
mod relay;
mod support;
