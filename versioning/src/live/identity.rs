//! Which inode a file of the set is.
//!
//! A name in a live tree proves nothing: anyone with access may have put something else there. An inode counts as a
//! file of the set only by what was recorded when we made it: its number and the moment of its birth, which no call can
//! set. A number is used again after its inode is gone, the two together are not. (A file handle would say the same
//! with its generation; there is no way to ask for one without `unsafe`.) On a file system that keeps no birth times
//! the number stands alone.

use keepshare_base::FileTime;

/// An inode, told apart from every other of its file system, earlier ones included.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Identity {
    /// The inode's number.
    inode: u64,
    /// When it was made; zero where the file system does not say.
    born: FileTime,
}

impl Identity {
    /// Takes the identity out of what the kernel said.
    pub(super) fn of(stat: &rustix::fs::Statx) -> Self {
        let told = stat.stx_mask & rustix::fs::StatxFlags::BTIME.bits() != 0;
        let born = FileTime { secs: stat.stx_btime.tv_sec, nanos: stat.stx_btime.tv_nsec };
        Self { inode: stat.stx_ino, born: if told { born } else { FileTime::default() } }
    }

    /// Returns the 20 bytes under which the state file keeps it.
    pub(super) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.inode.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.born.secs.to_le_bytes());
        bytes[16..].copy_from_slice(&self.born.nanos.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (inode, rest) = bytes.split_first_chunk::<8>()?;
        let (secs, rest) = rest.split_first_chunk::<8>()?;
        let nanos = <[u8; 4]>::try_from(rest).ok()?;
        let born = FileTime { secs: i64::from_le_bytes(*secs), nanos: u32::from_le_bytes(nanos) };
        Some(Self { inode: u64::from_le_bytes(*inode), born })
    }
}
