//! Which revision takes the place of which.

use keepshare_base::ClusterId;

use crate::{Document, DocumentHash, Revision, RuleError, rules};

/// How a revision that is taken follows the one that held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There was none.
    First,
    /// It is the one that holds.
    Known,
    /// It is later, and names the one that holds among those before it.
    Next,
    /// It is so much later that it does not name the one that holds any more.
    Far,
}

/// Why a revision is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is another cluster's.
    #[error("the document is of another cluster, {0}")]
    OtherCluster(ClusterId),
    /// A later one holds here.
    #[error("revision {got} is older than revision {held}, which holds here")]
    Older {
        /// The one that holds.
        held: Revision,
        /// The one that was given.
        got: Revision,
    },
    /// It comes from another history than the one that holds.
    #[error(
        "revision {got} does not continue revision {held}, which holds here: it was written without knowing it"
    )]
    Forked {
        /// The one that holds.
        held: Revision,
        /// The one that was given.
        got: Revision,
    },
    /// It breaks a rule.
    #[error("the document breaks a rule")]
    Rule(#[from] RuleError),
}

/// Judges whether `new`, whose signatures are right, takes the place of `old`.
pub fn judge(cluster: ClusterId, old: Option<&Document>, new: &Document) -> Result<Step, Refusal> {
    if new.cluster != cluster {
        return Err(Refusal::OtherCluster(new.cluster));
    }
    new.check()?;
    let Some(old) = old else { return Ok(Step::First) };
    if new == old {
        return Ok(Step::Known);
    }
    let (held, got) = (old.revision, new.revision);
    if got < held {
        return Err(Refusal::Older { held, got });
    }
    if got == held {
        return Err(Refusal::Forked { held, got });
    }
    // A cluster that was founded anew need not know what it lost.
    let step = match named(new, held).filter(|_| held.reign == got.reign) {
        Some(hash) if hash != old.hash() => return Err(Refusal::Forked { held, got }),
        Some(_) => Step::Next,
        None => Step::Far,
    };
    rules::check_after(old, new)?;
    Ok(step)
}

/// Returns the hash by which a revision names an earlier one; `None` where that one is too long ago.
fn named(document: &Document, earlier: Revision) -> Option<DocumentHash> {
    let back = document.revision.number.checked_sub(earlier.number)?.checked_sub(1)?;
    document.before.get(usize::try_from(back).ok()?).copied()
}
