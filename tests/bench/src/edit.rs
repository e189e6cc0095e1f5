//! One small edit: how long until the replica shows it.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{Rng, RngCore};

use keepshare_support::{tree, tree::TreeSpec};

use crate::{
    peer::{PLAIN, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, wait},
};

/// How many edits we are measured with.
const EDITS: usize = 200;

/// How many edits the rsync loop is measured with, which needs a pass for each.
const RSYNC_EDITS: usize = 20;

/// The file that is edited, in a tree of many.
const FILE: &str = "a/d000/f00001";

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("edit")?;
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: place.files(20_000).max(200), odd: false, seed: 1 })?;
    let rig = Rig::mirrored(&scratch, &source)?;
    let live = rig.live()?;
    let ours = latencies(&source, &live, EDITS, || Ok(()))?;
    rig.check()?;
    drop(rig);
    let rsync = match Rsync::start(&scratch)? {
        Some(rsync) => {
            rsync.pass(&source, PLAIN)?;
            let pass = || rsync.pass(&source, PLAIN).map(drop);
            Some(latencies(&source, rsync.copy(), RSYNC_EDITS, pass)?)
        }
        None => None,
    };
    for (measure, share) in [("edit visible, median", 0.5), ("edit visible, p99", 0.99)] {
        report.row(Row {
            work: "edit",
            measure,
            unit: Unit::Seconds,
            ours: quantile(&ours, share),
            peer: rsync.as_ref().map(|times| quantile(times, share)),
        })?;
    }
    Ok(())
}

/// Edits a file again and again and returns, sorted, how long each edit took to show.
fn latencies(
    source: &Path,
    target: &Path,
    edits: usize,
    mut push: impl FnMut() -> Result<()>,
) -> Result<Vec<f64>> {
    let mut random = rand::rng();
    let (from, to) = (source.join(FILE), target.join(FILE));
    let mut times = Vec::with_capacity(edits);
    let mut content = vec![0; 4096];
    for _ in 0..edits {
        // People do not save in step with anybody's clock.
        thread::sleep(Duration::from_millis(random.random_range(50..150)));
        random.fill_bytes(&mut content);
        fs::write(&from, &content)?;
        let started = Instant::now();
        push()?;
        wait("an edit shows", || fs::read(&to).is_ok_and(|found| found == content))?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a few hundred times"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!([quantile(&times, 0.5), quantile(&times, 0.99)], [100.0, 198.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }
}
