//! Whether the folder is still where it was, and what was mounted in it: nothing of that raises an event.

use std::time::Duration;

use keepshare_base::{FileId, Kind, Name, escape_name};
use keepshare_decide::{Known, agenda::NameTask};

use super::Worker;
use crate::{
    clock::mono,
    source::{SourceError, ledger::Tx},
};

/// How often it is looked whether the folder is still there, also when nothing is told of it.
const PLACE_EVERY: Duration = Duration::from_secs(5);

impl Worker {
    /// Looks whether the folder is still in its place, and at the names where something was mounted or unmounted: when the
    /// mount table changed, and now and then.
    pub(super) fn look_at_place(&mut self) {
        let now = mono();
        if now < self.next_place {
            return;
        }
        self.next_place = now + PLACE_EVERY;
        let Some(attached) = &mut self.attached else { return };
        if let Err(reason) = attached.tree.is_in_place() {
            return self.fail(&SourceError::Vanished(reason));
        }
        let changed = attached.mounts.look();
        if changed.is_empty() {
            return;
        }
        let found = self.ledger.write(|tx| {
            let places = changed.iter().map(|names| nearest(tx, names));
            places.collect::<Result<Vec<_>, _>>()
        });
        match found {
            Ok(places) => {
                for (parent, name) in places.into_iter().flatten() {
                    // What a mount hid may have changed meanwhile: all of it is compared.
                    let task = NameTask { scan: true, ..NameTask::default() };
                    self.pending.agenda.add_name(parent, name, task);
                }
            }
            Err(error) => self.fail(&error),
        }
    }
}

/// Returns the name on the way to a place that the map does not know, or that of the place itself.
fn nearest(tx: &Tx<'_>, names: &[Vec<u8>]) -> Result<Option<(FileId, Name)>, SourceError> {
    let mut at = FileId::ROOT;
    let mut place = None;
    for name in names {
        let Ok(name) = escape_name(name) else { break };
        let known = tx.map.lookup(at, &name)?;
        place = Some((at, name));
        match known {
            Some((folder, Kind::Dir)) => at = folder,
            _ => break,
        }
    }
    Ok(place)
}
