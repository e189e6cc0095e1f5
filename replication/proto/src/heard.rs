//! When the other end of a link was last heard.

use std::time::Duration;

use crate::MonoTime;

/// A link on which nothing came for so long is dead.
pub(crate) const LINK_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a frame may be on its way. So the largest still comes over a line of 1.8 kB/s, and an end that lets a byte drip
/// now and then holds a link no longer than this.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(600);

/// When a whole frame last came, and when bytes did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    frame: MonoTime,
    bytes: MonoTime,
}

impl Heard {
    /// A whole frame came, or the link begins.
    pub(crate) fn frame(&mut self, now: MonoTime) {
        *self = Self { frame: now, bytes: now };
    }

    /// Bytes last came then; tells whether they are of a frame that is not whole yet.
    pub(crate) fn bytes(&mut self, at: MonoTime) -> bool {
        self.bytes = self.bytes.max(at);
        self.is_amid_frame()
    }

    /// Tells whether a part of a frame came.
    pub(crate) fn is_amid_frame(&self) -> bool {
        self.bytes > self.frame
    }

    /// Returns when the last whole frame came.
    pub(crate) fn last_frame(&self) -> MonoTime {
        self.frame
    }

    /// Returns from when on the link is dead, if nothing comes until then.
    pub(crate) fn dead_at(&self) -> MonoTime {
        (self.bytes + LINK_TIMEOUT).min(self.frame + FRAME_TIMEOUT)
    }
}
