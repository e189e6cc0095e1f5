//! A live tree compared with what was committed.

use tokio::sync::oneshot;

use keepshare_base::chain;
use keepshare_control::{Failure, Outcome, Reply, answers::Progress};
use keepshare_versioning::live::{Checked, Checking, Difference};

use super::Replica;

impl Replica {
    /// Compares the live tree with what was committed, telling how far it is; it follows new commits in between. Blocks.
    pub fn check_live(&self, reply: &mut Reply) -> Outcome<Vec<String>> {
        if self.is_in_place {
            // Others write there at any time; that it is looked at is the source's part.
            return Ok(Vec::new());
        }
        let mut checking = Checking::new(true);
        loop {
            let store = self.open_store()?;
            let (answer, answered) = oneshot::channel();
            store.with_live(move |tree, reader| {
                let more = tree.check_step(reader, &mut checking);
                // Whoever asked may be gone.
                let _ = answer.send((checking, more));
            });
            drop(store);
            let Ok((went_on, more)) = answered.blocking_recv() else {
                // There is no tree that could be compared, or no set any more.
                let why = self.store_status().live_failed;
                let why = why.ok_or_else(|| Failure::unavailable("the station is stopping"))?;
                return Ok(vec![format!("it cannot be compared: {why}")]);
            };
            checking = went_on;
            let doing = format!("comparing the live tree of set {}: entries", self.name);
            reply.progress(&Progress { doing, done: checking.checked().files, total: None })?;
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(lines_of(checking.checked())),
                Err(error) => {
                    // What was found before is wrong all the same.
                    let mut lines = lines_of(checking.checked());
                    lines.push(format!("it cannot be compared: {}", chain(&error)));
                    return Ok(lines);
                }
            }
        }
    }
}

/// Returns what a person is told of a comparison.
fn lines_of(checked: &Checked) -> Vec<String> {
    let line = |difference: &Difference| format!("{}: {}", difference.path, difference.kind);
    let mut lines: Vec<String> = checked.differences.iter().map(line).collect();
    if checked.more_differences > 0 {
        lines.push(format!("{} more", checked.more_differences));
    }
    lines
}
