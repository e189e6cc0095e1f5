//! A folder of a view that is moved to a free name of a drive: a roll-back that makes all of it anew, and whose end is waited for.

use std::{sync::Arc, time::Instant};

use keepshare_base::CommitId;
use keepshare_control::{Code, Failure};
use keepshare_namespace::{Restore, RestoreError};
use keepshare_versioning::rollback::Back;

use super::{
    Replica,
    restoring::{RETURN_POLL, RETURN_TIMEOUT},
    rolling::Order,
};
use crate::rollback::By;

/// The most files, folders and links that come back while a client waits for its answer, and the most bytes: seconds of work, so that
/// no client takes the drive for dead. What is more is rolled back by command, which shows how far it is.
const ENTRIES_MAX: u64 = 5_000;
const BYTES_MAX: u64 = 2 << 30;

impl Replica {
    /// Brings a folder back as it was at a commit, to where nothing is, with the rights of whoever has this login; returns which
    /// roll-back that was when all of it is in the live tree. It is a roll-back like any: it can be taken back. Blocks.
    pub fn bring_for_door(
        self: &Arc<Self>,
        Restore { path, state, user, .. }: &Restore,
        at: CommitId,
        login: u64,
    ) -> Result<String, RestoreError> {
        let moment = self.reader.view().and_then(|view| view.commit_info(at)).ok().flatten();
        let order = Order {
            path: path.clone(),
            back: Back::Anew { of: state.file, at },
            base: CommitId::MAX,
            only: None,
            links: false,
            to: moment.map_or_else(|| at.to_string(), |info| info.moment.to_string()),
            by: By { user: user.clone(), login: Some(login) },
        };
        let would = self.preview_rollback(&order, 0).map_err(refused)?;
        if would.brought_back > ENTRIES_MAX || would.bytes > BYTES_MAX {
            return Err(RestoreError::Refused(format!(
                "a folder of more than {ENTRIES_MAX} files and folders, or {} GiB, is brought back with keepshare rollback, or with \
                 keepshare restore --to DIR",
                BYTES_MAX >> 30
            )));
        }
        let begun = self.roll_back(&order, false).map_err(refused)?;
        let id = begun.id().to_owned();
        let done = begun.follow(|_| Ok(())).map_err(|_| RestoreError::Unknown)?;
        if done.state != "done" || !self.is_live(&id) {
            tracing::warn!(set = %self.name, rollback = id, state = done.state, "a folder that was moved on a drive did not come back wholly");
            return Err(RestoreError::Unknown);
        }
        Ok(id)
    }

    /// Waits until the live tree has what a roll-back did, and tells whether it has.
    fn is_live(&self, id: &str) -> bool {
        let admin = By { user: String::new(), login: None };
        let Ok(Some((after, ..))) = self.rollbacks.read(id, &admin).map(|record| record.end) else {
            return false;
        };
        let deadline = Instant::now() + RETURN_TIMEOUT;
        while self.store_status().live < after {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(RETURN_POLL);
        }
        true
    }
}

fn refused(failure: Failure) -> RestoreError {
    match failure.code {
        Code::Unavailable => RestoreError::Away,
        _ => RestoreError::Refused(failure.one_line()),
    }
}
