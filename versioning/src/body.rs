//! Contents of files: small ones in one piece, long ones in blocks and pages.
//!
//! Content up to 512 bytes stays in its file row, up to 64 KiB it is one frame of a pack. Longer content is *mapped*:
//! its first copy comes in blocks of 64 KiB, later changes in pages of 4 KiB, and a *void* at a commit makes all older
//! content from some byte on read as zeros. A byte is what the newest row says that covers it, a page before a block
//! where both are of one commit, unless a void newer than that row starts at or before the byte.

mod read;
mod sweep;
mod write;

use crate::{
    index::IndexError,
    pack::{PackError, PackLoc, Sum},
};

pub(crate) use read::{ReadPlan, Stretch, plan_read};
pub(crate) use sweep::Sweep;
pub(crate) use write::{Data, Old, small_content, write};

/// Why content could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// A pack failed.
    #[error("a pack failed")]
    Pack(#[from] PackError),
    /// The content was removed.
    #[error("the content was removed")]
    Expired,
}

/// Gives frames of packs.
pub(crate) trait Frames {
    /// Returns the content at `loc`, checked.
    fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError>;

    /// Shows the content at `loc`, checked, without giving it away.
    fn look(&self, loc: PackLoc, look: &mut dyn FnMut(&[u8])) -> Result<(), PackError> {
        look(&self.read(loc)?);
        Ok(())
    }
}

/// Takes frames of packs.
pub(crate) trait FramesMut: Frames {
    /// Stores a piece of content; `sum` is what a frame keeps of its hash, where that is known.
    fn append(&mut self, raw: &[u8], sum: Option<Sum>) -> Result<PackLoc, PackError>;
}
