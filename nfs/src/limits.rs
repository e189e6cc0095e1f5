//! What clients may take.

use std::time::Duration;

use keepshare_gate::Shares;
use keepshare_nfs_wire::record::FRAGMENTS_MAX;

/// What clients may take before others would notice.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address, or one /64 of IPv6; one more closes the one silent longest.
    pub connections_per_address: usize,
    /// Connections of one address that have not shown a good handle; one more closes the one silent longest.
    pub strangers_per_address: usize,
    /// Connections of one user, whatever the addresses, or of one machine of a host session; one more closes the one silent
    /// longest.
    pub connections_per_user: usize,
    /// Connections of all machines of one host session; one more closes the one silent longest.
    pub connections_per_host_session: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// How long a connection may be idle that has not shown a good handle.
    pub stranger_idle: Duration,
    /// How long one record may take to arrive.
    pub half_record: Duration,
    /// How long a client may take none of the answers it has coming.
    pub unread_answers: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 128,
            strangers_per_address: 96,
            connections_per_user: 64,
            connections_per_host_session: 128,
            idle: Duration::from_secs(600),
            stranger_idle: Duration::from_secs(60),
            half_record: Duration::from_secs(60),
            unread_answers: Duration::from_secs(30),
        }
    }
}

impl Limits {
    pub(crate) fn shares(&self) -> Shares {
        Shares {
            places: self.connections,
            of_an_address: self.connections_per_address,
            of_an_addresses_strangers: self.strangers_per_address,
            of_a_holder: self.connections_per_user,
            of_kin: self.connections_per_host_session,
        }
    }
}

/// The most bytes of one READ, WRITE or listing.
pub(crate) const TRANSFER_BYTES_MAX: u32 = 1 << 20;

/// The longest record: a WRITE of [`TRANSFER_BYTES_MAX`] and what goes around it.
pub(crate) const RECORD_BYTES_MAX: usize = (1 << 20) + 4096;

/// The longest record of a client that has not shown a good handle.
pub(crate) const STRANGER_RECORD_BYTES_MAX: usize = 16 * 1024;

/// What a connection has of its own for records, and about as much again for answers that wait; what is larger is lent to
/// it. With [`SMALL_TRANSFER_BYTES`] that is 64 KiB, 16 MiB for all connections. A stranger's record with its marks fits:
/// strangers are never lent anything, and never wait for it.
pub(crate) const OWN_BYTES: usize = STRANGER_RECORD_BYTES_MAX + 4 * FRAGMENTS_MAX;

/// The most bytes of a READ or listing that no large buffer could be had for.
pub(crate) const SMALL_TRANSFER_BYTES: u32 = 32 * 1024;

/// How many bytes of answers are gathered in a large buffer before they are sent.
pub(crate) const ANSWERS_BYTES: usize = 256 * 1024;
