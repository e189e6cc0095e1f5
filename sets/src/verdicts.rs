//! Verdicts on points of a copy: which of them somebody found good, and which bad.
//!
//! They are this station's, as what was looked at was read here. Nothing is kept or let go for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use keepshare_base::SetName;
use keepshare_control::{Code, Failure, Outcome, points::Verdict};
use keepshare_host::{clock, files};

/// The file of a copy's verdicts, in the copy's folder.
const FILE: &str = "verdicts.toml";

/// The format.
const FORMAT: u32 = 1;

/// The verdicts on the points of one copy: one of each point that there is, at most.
#[derive(Debug)]
pub struct Verdicts {
    file: PathBuf,
    written: Mutex<Outcome<Written>>,
}

/// What is written down: `docs/formats/points.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    /// By the points' ids.
    #[serde(default)]
    verdicts: BTreeMap<String, Judged>,
}

/// What was found of a point.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// What.
    pub verdict: Verdict,
    /// When, RFC 3339.
    pub time: String,
}

impl Default for Written {
    fn default() -> Self {
        Self { format: FORMAT, verdicts: BTreeMap::new() }
    }
}

impl Verdicts {
    /// Opens those of a copy in its folder. Where they cannot be read there are none, and none are taken until that is put right.
    pub fn open(set: &SetName, dir: &Path) -> Self {
        let file = dir.join(FILE);
        let written = match std::fs::read_to_string(&file) {
            Ok(text) => read(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
            Err(error) => Err(anyhow::Error::new(error).into()),
        };
        let written =
            written.map_err(|failure| failure.context(format!("cannot read {}", file.display())));
        if let Err(failure) = &written {
            tracing::error!(%set, %failure, "which points were found good is not known");
        }
        Self { file, written: Mutex::new(written) }
    }

    /// Returns what was found of points, by their ids.
    pub fn known(&self) -> BTreeMap<String, Judged> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.as_ref().map(|written| written.verdicts.clone()).unwrap_or_default()
    }

    /// Notes what was found of a point, or that nothing is known of it any more. Those of points that are no more are forgotten.
    pub fn note(
        &self,
        point: &str,
        verdict: Option<Verdict>,
        points: &BTreeSet<&str>,
    ) -> Outcome<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = written.clone()?;
        next.verdicts.retain(|known, _| known != point && points.contains(known.as_str()));
        if let Some(verdict) = verdict {
            let judged = Judged { verdict, time: clock::now().to_string() };
            next.verdicts.insert(point.to_owned(), judged);
        }
        let text = toml::to_string(&next).map_err(anyhow::Error::new)?;
        files::write_synced(&self.file, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        *written = Ok(next);
        Ok(())
    }
}

fn read(text: &str) -> Outcome<Written> {
    let written: Written = toml::from_str(text).map_err(anyhow::Error::new)?;
    if written.format == FORMAT {
        return Ok(written);
    }
    let what = format!("its format is {}; this release reads {FORMAT}", written.format);
    Err(Failure::new(Code::Refused, what).hint("a newer release wrote it: start that one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SetName {
        "work".parse().unwrap()
    }

    #[test]
    fn what_was_found_stays_as_long_as_its_point() {
        let dir = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::open(&set(), dir.path());
        let both = BTreeSet::from(["v1.1.7", "v1.1.9"]);
        verdicts.note("v1.1.7", Some(Verdict::Bad), &both).unwrap();
        verdicts.note("v1.1.9", Some(Verdict::Good), &both).unwrap();
        let known = Verdicts::open(&set(), dir.path()).known();
        assert_eq!(known["v1.1.7"].verdict, Verdict::Bad);
        assert_eq!(known["v1.1.9"].verdict, Verdict::Good);
        let one = BTreeSet::from(["v1.1.9"]);
        verdicts.note("v1.1.9", Some(Verdict::Bad), &one).unwrap();
        assert_eq!(verdicts.known().keys().collect::<Vec<_>>(), ["v1.1.9"]);
        verdicts.note("v1.1.9", None, &one).unwrap();
        assert!(Verdicts::open(&set(), dir.path()).known().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_overwritten() {
        for text in ["what?", "format = 9\n", "format = 1\nnew = true\n"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let verdicts = Verdicts::open(&set(), dir.path());
            assert!(verdicts.known().is_empty());
            verdicts.note("v1.1.7", Some(Verdict::Good), &BTreeSet::from(["v1.1.7"])).unwrap_err();
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
    }
}
