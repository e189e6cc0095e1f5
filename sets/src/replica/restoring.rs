//! Restores in place: a copy's station asks the set's master, which writes.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use keepshare_base::{Kind, RequestId, RestoreGround, SetPath, VersionId};
use keepshare_control::{Code, Failure, Outcome, answers::Restored};
use keepshare_namespace::{Restorable, Restore, RestoreError};
use keepshare_proto::{
    Act, RestoreAnswer, RestoreRequest, Text,
    restore::{RESTORES_MAX, RestoreEnd},
};
use keepshare_replication::drivers::{Wanted, receive::Ask};
use keepshare_versioning::{FileState, names};

use super::Replica;
use crate::{content::content_hash, request::new_request};

/// How long a restore that its master has done may take to come back as a change.
pub(crate) const RETURN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked for.
pub(crate) const RETURN_POLL: Duration = Duration::from_millis(20);

/// How long a restore waits for its turn.
pub(super) const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// What came of a restore: the master wrote it.
pub(crate) const WRITTEN: &str = "written";

/// What came of a restore: the file had these bytes already.
pub(crate) const EQUAL: &str = "equal";

impl Replica {
    /// Has the master write an old version back at `path`, and waits until it has come back as a new one. Blocks.
    pub fn restore(
        &self,
        path: &SetPath,
        Restorable { state, ground }: &Restorable,
        (user, holder): (&str, Option<&str>),
    ) -> Outcome<Restored> {
        let id = new_request()?;
        let wanted = Wanted::always();
        let turn = self.turns.take(holder, TURN_PATIENCE, &wanted).ok_or_else(|| {
            let set = &self.name;
            Failure::unavailable(format!(
                "{RESTORES_MAX} restores of set {set} are under way, and others wait"
            ))
            .hint("nothing was changed; try again in a moment")
        })?;
        let asked = (id, user, ground.clone());
        let end = self.ask_master(asked, path, state, wanted)?;
        drop(turn);
        let still_open = matches!(&end, RestoreEnd::Answered(RestoreAnswer::StillOpen(_)));
        let (outcome, on_its_way) = self.outcome(end, id, path)?;
        Ok(Restored {
            set: self.name.to_string(),
            path: path.to_string(),
            version: names::id(state).to_string(),
            outcome: outcome.to_owned(),
            still_open,
            on_its_way,
        })
    }

    /// Does what a door asks: a repeat of a request, after a restart of this station too, is answered and not done
    /// again. Returns what came of it. Nothing more is done for who does not want it any more. Blocks.
    pub fn restore_for_door(
        &self,
        restore: &Restore,
        wanted: Wanted,
    ) -> Result<&'static str, RestoreError> {
        let Restore { path, state, user, request, ground, .. } = restore;
        let known = self.reader.view().ok().and_then(|view| view.restore(*request).ok());
        let mut result = "repeated";
        if known.flatten().is_none() {
            let turn = self.turns.take(Some(user.as_str()), TURN_PATIENCE, &wanted);
            let turn = turn.ok_or(RestoreError::Busy)?;
            let asked = (*request, &user[..], Some(ground.clone()));
            let end = self.ask_master(asked, path, state, wanted);
            drop(turn);
            match end.map_err(|failure| RestoreError::Refused(failure.one_line()))? {
                RestoreEnd::Answered(RestoreAnswer::Written(_) | RestoreAnswer::StillOpen(_)) => {
                    result = WRITTEN;
                }
                RestoreEnd::Answered(RestoreAnswer::Equal(_)) => result = EQUAL,
                RestoreEnd::Answered(
                    RestoreAnswer::Failed(reason) | RestoreAnswer::NotNow(reason),
                )
                | RestoreEnd::Unreadable(reason) => {
                    return Err(RestoreError::Refused(reason.to_string()));
                }
                RestoreEnd::NotAsked(_) => return Err(RestoreError::Away),
                RestoreEnd::Unknown(_) => return Err(RestoreError::Unknown),
            }
        }
        if self.wait_for(*request) { Ok(result) } else { Err(RestoreError::Unknown) }
    }

    /// Sends the master a restore and the content that goes with it, and returns how it ended. Blocks.
    fn ask_master(
        &self,
        (id, user, ground): (RequestId, &str, Option<RestoreGround>),
        path: &SetPath,
        state: &FileState,
        wanted: Wanted,
    ) -> Outcome<RestoreEnd> {
        let request = RestoreRequest {
            request: id,
            path: path.clone(),
            version: VersionId(state.position),
            meta: state.meta.clone(),
            hash: content_hash(&self.reader, state, &wanted)?,
            user: Some(Text::new(user)),
            ground,
            act: Act::Write,
        };
        self.ask(request, state.clone(), wanted)
    }

    /// Sends the master a request, and the content of `state` where one goes with it, and returns how it ended. Blocks.
    pub(super) fn ask(
        &self,
        request: RestoreRequest,
        state: FileState,
        wanted: Wanted,
    ) -> Outcome<RestoreEnd> {
        let (done, ended) = oneshot::channel();
        let stopping = || Failure::unavailable("the station is stopping");
        self.asks.blocking_send(Ask { request, state, wanted, done }).map_err(|_| stopping())?;
        ended.blocking_recv().map_err(|_| stopping())
    }

    /// Returns what came of a restore, and whether its version is still on its way here.
    fn outcome(
        &self,
        end: RestoreEnd,
        request: RequestId,
        path: &SetPath,
    ) -> Outcome<(&'static str, bool)> {
        let from = &self.from;
        match end {
            RestoreEnd::Answered(RestoreAnswer::Written(_) | RestoreAnswer::StillOpen(_)) => {
                Ok((WRITTEN, !self.wait_for(request)))
            }
            RestoreEnd::Answered(RestoreAnswer::Equal(_)) => Ok((EQUAL, false)),
            RestoreEnd::Answered(RestoreAnswer::Failed(reason) | RestoreAnswer::NotNow(reason)) => {
                let failure =
                    |code| Failure::new(code, format!("{from} did not restore it: {reason}"));
                Err(match self.missing_folder(path) {
                    Some(folder) => failure(Code::Refused).hint(format!(
                        "make the folder {folder} in the source on {from} first, or restore elsewhere with --to DIR"
                    )),
                    None => failure(Code::Failed)
                        .hint("nothing was changed; --to DIR restores without the master"),
                })
            }
            RestoreEnd::Unreadable(reason) => {
                Err(Failure::new(Code::Failed, format!("its content cannot be read: {reason}"))
                    .hint("nothing was changed; another station may have it"))
            }
            RestoreEnd::NotAsked(reason) => {
                Err(Failure::unavailable(format!("{from} cannot be asked: {reason}"))
                    .hint("nothing was changed; --to DIR restores without the master"))
            }
            RestoreEnd::Unknown(reason) => {
                Err(Failure::unavailable(format!("{from} gave no answer: {reason}"))
                    .hint("it may have been restored: keepshare versions shows it when it was"))
            }
        }
    }

    /// Returns the first folder above `path` that is not there now.
    fn missing_folder(&self, path: &SetPath) -> Option<SetPath> {
        let view = self.reader.view().ok()?;
        let (parent, _) = path.split_last()?;
        let mut folder = SetPath::default();
        for name in parent.names() {
            folder = folder.join(name.clone());
            let found = view.resolve(&folder, view.latest()).ok()?;
            if found.is_none_or(|(_, kind)| kind != Kind::Dir) {
                return Some(folder);
            }
        }
        None
    }

    /// Waits until a restore has come back as a change and is in the live tree, and tells whether it has; it is done either
    /// way.
    fn wait_for(&self, request: RequestId) -> bool {
        let deadline = Instant::now() + RETURN_TIMEOUT;
        while Instant::now() < deadline {
            let known = self.reader.view().ok().and_then(|view| view.restore(request).ok());
            if let Some(info) = known.flatten()
                && self.store_status().live >= info.commit
            {
                return true;
            }
            std::thread::sleep(RETURN_POLL);
        }
        false
    }
}
