//! The HTTPS door: users log in here and ask their questions.
//!
//! JSON over HTTP/1.1 over TLS 1.3 with the station's own certificate; nothing else is spoken, no cookies are set and no
//! other site may ask. [`Door`] is the station's end, [`client`] the end of `keepshare login`, [`keepshare_control::login`] what they say
//! to each other. Before a password is right a client can take a bounded share of connections, bytes and time, and what
//! it may try is limited by [`keepshare_auth::Accounts`].

mod api;
mod authorization;
pub mod client;
mod door;
mod error;
mod station;

pub use door::Door;
pub use station::{DrivePorts, Station};
