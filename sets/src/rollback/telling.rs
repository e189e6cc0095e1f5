//! What is told of a roll-back: counted, and in words.

use keepshare_control::rollback::{Conflict, RolledBack, StepTold};
use keepshare_versioning::rollback::{Doing, Left, Present, Step, Why};

/// The most conflicts of which it is told what they are.
const CONFLICTS_MAX: usize = 10_000;

/// Why something is left that whoever ordered it may not do.
pub(crate) const NOT_YOURS: &str = "you may not change it so, and it stays";

/// Says what an undo brings back.
pub(crate) fn undo_of(id: &str) -> String {
    format!("undo {id}")
}

/// Counts a step.
pub(crate) fn count(told: &mut RolledBack, step: &Step) {
    match &step.doing {
        Doing::Write { exact, size, over, .. } => {
            *(if *exact { &mut told.exact } else { &mut told.nearest }) += 1;
            *(if over.is_some() { &mut told.restored } else { &mut told.brought_back }) += 1;
            told.bytes += size;
        }
        Doing::Make { .. } | Doing::Link { .. } => told.brought_back += 1,
        Doing::SetAttributes { differs, .. } => told.restored += u64::from(*differs),
        Doing::Move { aside, .. } => told.renamed += u64::from(!aside),
        Doing::Remove { .. } => told.removed += 1,
    }
}

/// Returns by how many bytes a step makes a folder larger: what is written, without what that replaces; less than nothing where something
/// goes.
pub(crate) fn growth_of(step: &Step) -> i128 {
    let size_of = |what: &Present| what.still.map_or(0, |(size, _)| i128::from(size));
    match &step.doing {
        Doing::Write { size, over, .. } => i128::from(*size) - over.as_ref().map_or(0, size_of),
        Doing::Remove { what, .. } => -size_of(what),
        _ => 0,
    }
}

/// Notes something that stays.
pub(crate) fn left(told: &mut RolledBack, left: &Left) {
    told.lost += u64::from(left.why == Why::Lost);
    conflict(told, left.path.to_string(), why(left.why).to_owned());
}

pub(super) fn conflict(told: &mut RolledBack, path: String, why: String) {
    if told.conflicts.len() < CONFLICTS_MAX {
        told.conflicts.push(Conflict { path, why });
    } else {
        told.more_conflicts += 1;
    }
}

/// Says what a step does; none of what only makes room, or follows from others.
pub(crate) fn step_told(step: &Step) -> Option<StepTold> {
    let (does, to) = match &step.doing {
        Doing::Write { over: Some(_), .. } => ("restore", None),
        Doing::Write { over: None, .. } | Doing::Make { .. } => ("bring-back", None),
        Doing::Link { to, .. } => {
            let (path, does) = (to.to_string(), "bring-back".to_owned());
            return Some(StepTold { path, does, to: None });
        }
        Doing::SetAttributes { differs: true, .. } => ("attributes", None),
        Doing::SetAttributes { .. } | Doing::Move { aside: true, .. } => return None,
        Doing::Move { to, .. } => ("rename", Some(to.to_string())),
        Doing::Remove { .. } => ("remove", None),
    };
    Some(StepTold { path: step.path.to_string(), does: does.to_owned(), to })
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Lost => "nothing of what it was then is kept",
        Why::MovedIn => "it was elsewhere then, and stays",
        Why::Changed => "it changed since, and stays",
        Why::CameSince => "it came since, and stays",
        Why::NotAVersion => "it is being written, and stays: what is in it is no version yet",
        Why::Special(_) => "pipes, sockets and devices are not brought back",
        Why::LinkedOutside => {
            "it has names outside of the folder, which would change, too: --links does it"
        }
        Why::HoldsWhatStays => "something in it stays",
        Why::Temporary => "it is a file that programs make for a moment",
        Why::InItself => "a folder would come into itself",
        Why::NotYours => NOT_YOURS,
        Why::NotListed => "you may not list this folder, and nothing in it is touched",
        Why::Taken => "something newer has its name: keepshare versions lists what was there",
    }
}
