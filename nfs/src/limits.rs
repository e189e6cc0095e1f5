//! What clients may take.

use std::time::Duration;

/// What clients may take before others would notice.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Connections of one address that have not shown a good handle; one more closes the one longest idle.
    pub strangers_per_address: usize,
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
            connections_per_address: 32,
            strangers_per_address: 8,
            idle: Duration::from_secs(600),
            stranger_idle: Duration::from_secs(60),
            half_record: Duration::from_secs(60),
            unread_answers: Duration::from_secs(30),
        }
    }
}

/// The most bytes of one READ, WRITE or listing.
pub(crate) const TRANSFER_BYTES_MAX: u32 = 1 << 20;

/// The longest record: a WRITE of [`TRANSFER_BYTES_MAX`] and what goes around it.
pub(crate) const RECORD_BYTES_MAX: usize = (1 << 20) + 4096;

/// The longest record of a client that has not shown a good handle.
pub(crate) const STRANGER_RECORD_BYTES_MAX: usize = 64 * 1024;

/// How many bytes of answers are gathered before they are sent. A connection holds at most this, one answer of
/// [`TRANSFER_BYTES_MAX`] and one record.
pub(crate) const ANSWERS_BYTES: usize = 256 * 1024;

/// The buffers that an idle connection keeps, in bytes each.
pub(crate) const IDLE_BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection keeps larger buffers while nothing comes.
pub(crate) const LARGE_BUFFERS_KEPT: Duration = Duration::from_secs(5);
