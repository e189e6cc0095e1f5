//! What is written down of a copy's scrub: `docs/formats/scrub.md`.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use keepshare_control::scrub::{ScrubDamage, ScrubbedPass};
use keepshare_host::files;
use keepshare_versioning::scrub::Cursor;

/// The format of both files.
const FORMAT: u32 = 1;

/// The most damage that is listed; the rest is counted. Below a MiB in memory and on the disk.
pub(super) const DAMAGE_MAX: usize = 1000;

/// How much of what was put right is remembered.
const MENDED_MAX: usize = 100;

/// Where a scrub is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    format: u32,
    /// Somebody paused it.
    #[serde(default)]
    pub(super) is_paused: bool,
    /// How many passes there were.
    #[serde(default)]
    pub(super) passes: u64,
    /// What came of the last one that was whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<ScrubbedPass>,
    /// The one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pass: Option<Pass>,
}

/// A pass that runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pass {
    pub(super) began: String,
    /// Somebody waits for it.
    #[serde(default)]
    pub(super) is_hurried: bool,
    #[serde(default)]
    pub(super) read_bytes: u64,
    #[serde(default)]
    pub(super) found: u64,
    #[serde(default)]
    pub(super) mended: u64,
    pub(super) at: Cursor,
}

impl Default for Written {
    fn default() -> Self {
        Self { format: FORMAT, is_paused: false, passes: 0, last: None, pass: None }
    }
}

/// What was found.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Damage {
    format: u32,
    /// How much more the last whole pass found than is listed, that is not put right.
    #[serde(default)]
    pub(super) more: u64,
    /// The same of the pass that runs.
    #[serde(default)]
    more_now: u64,
    #[serde(default)]
    listed: Vec<Listed>,
}

/// One thing that was found, and in which pass last.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Listed {
    pass: u64,
    #[serde(flatten)]
    damage: ScrubDamage,
}

impl Default for Damage {
    fn default() -> Self {
        Self { format: FORMAT, more: 0, more_now: 0, listed: Vec::new() }
    }
}

impl Damage {
    /// Notes what a pass found. What it finds once more is one thing; damaged is what is not put right as a whole.
    pub(super) fn note(&mut self, pass: u64, damage: ScrubDamage) {
        let is_it = |listed: &Listed| {
            let ScrubDamage { kind, path, version, .. } = &listed.damage;
            (kind, path, version) == (&damage.kind, &damage.path, &damage.version)
        };
        if let Some(listed) = self.listed.iter_mut().find(|listed| is_it(listed)) {
            let is_mended = damage.is_mended && (listed.pass < pass || listed.damage.is_mended);
            *listed = Listed { pass, damage: ScrubDamage { is_mended, ..damage } };
            return;
        }
        let is_full = self.listed.len() >= DAMAGE_MAX;
        let oldest = self.listed.iter().position(|listed| listed.damage.is_mended);
        match (is_full, oldest) {
            (false, _) => {}
            (true, Some(oldest)) => drop(self.listed.remove(oldest)),
            (true, None) => {
                self.more_now += u64::from(!damage.is_mended);
                return;
            }
        }
        self.listed.push(Listed { pass, damage });
    }

    /// Notes that a pass is over: what it did not find any more is well, or gone.
    pub(super) fn end_pass(&mut self, pass: u64) {
        self.listed.retain(|listed| listed.damage.is_mended || listed.pass == pass);
        let mended = self.listed.iter().filter(|listed| listed.damage.is_mended).count();
        let mut over = mended.saturating_sub(MENDED_MAX);
        self.listed.retain(|listed| {
            let goes = listed.damage.is_mended && over > 0;
            over -= usize::from(goes);
            !goes
        });
        (self.more, self.more_now) = (self.more_now, 0);
    }

    /// Returns how much of a kind is not put right; of versions with what is not listed.
    pub(super) fn left(&self, kind: &str) -> u64 {
        let is_left = |one: &&Listed| one.damage.kind == kind && !one.damage.is_mended;
        let listed = self.listed.iter().filter(is_left).count() as u64;
        listed + if kind == "version" { self.not_listed() } else { 0 }
    }

    /// Returns how much more was found than is listed.
    pub(super) fn not_listed(&self) -> u64 {
        self.more.max(self.more_now)
    }

    /// Returns what is listed, the newest first.
    pub(super) fn listed(&self) -> Vec<ScrubDamage> {
        self.listed.iter().rev().map(|listed| listed.damage.clone()).collect()
    }
}

/// Reads a file; one that is not there, or does not read, is begun anew: the next pass finds all again.
pub(super) fn read<T: DeserializeOwned + Default>(file: &Path) -> T {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    let Ok(text) = std::fs::read_to_string(file) else { return T::default() };
    let is_ours = toml::from_str::<Header>(&text).is_ok_and(|header| header.format == FORMAT);
    match toml::from_str(&text) {
        Ok(read) if is_ours => read,
        _ => {
            tracing::warn!(file = %file.display(), "it does not read, and is begun anew");
            T::default()
        }
    }
}

/// Writes a file; where that fails, as on a full disk, no more is lost than where the scrub was.
pub(super) fn write(file: &Path, value: &impl Serialize) {
    let text = toml::to_string(value).map_err(anyhow::Error::new);
    let written = text.and_then(|text| Ok(files::write_synced(file, text.as_bytes(), 0o600)?));
    if let Err(error) = written {
        tracing::warn!(error = format!("{error:#}"), "where the scrub is cannot be written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(n: usize, is_mended: bool) -> ScrubDamage {
        ScrubDamage {
            kind: "version".to_owned(),
            path: format!("file {n}"),
            version: Some(n.to_string()),
            time: String::new(),
            what: String::new(),
            is_mended,
        }
    }

    /// A rotten disk has millions of damaged versions: the list has an end, and says so.
    #[test]
    fn the_list_is_bounded_and_the_rest_is_counted() {
        let mut damage = Damage::default();
        damage.note(1, version(9999, true));
        for n in 0..DAMAGE_MAX + 50 {
            damage.note(1, version(n, false));
        }
        assert_eq!((damage.listed().len(), damage.not_listed()), (DAMAGE_MAX, 50));
        assert_eq!(damage.left("version"), DAMAGE_MAX as u64 + 50);
        let text = toml::to_string(&damage).unwrap();
        assert_eq!(toml::from_str::<Damage>(&text).unwrap().listed(), damage.listed());
        damage.end_pass(1);
        assert_eq!(damage.left("version"), DAMAGE_MAX as u64 + 50, "until the next pass is over");
        damage.note(2, version(3, false));
        damage.end_pass(2);
        assert_eq!((damage.left("version"), damage.listed().len()), (1, 1));
    }

    /// One damaged block of two that were found leaves the version damaged.
    #[test]
    fn half_a_repair_is_none() {
        let mut damage = Damage::default();
        for (first, then) in [(true, false), (false, true)] {
            damage.note(1, version(1, first));
            damage.note(1, version(1, then));
            assert_eq!(damage.left("version"), 1);
        }
        damage.note(2, version(1, true));
        assert_eq!(damage.left("version"), 0);
    }

    #[test]
    fn what_does_not_read_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scrub.toml");
        let pass = Pass {
            began: "then".to_owned(),
            is_hurried: true,
            read_bytes: 7,
            found: 1,
            mended: 0,
            at: Cursor::Log { generation: 3, offset: 4096 },
        };
        let written = Written { is_paused: true, pass: Some(pass), ..Written::default() };
        write(&file, &written);
        let read_back: Written = read(&file);
        assert!(read_back.is_paused);
        assert_eq!(read_back.pass.unwrap().at, Cursor::Log { generation: 3, offset: 4096 });
        for text in ["", "format = 2", "format = 1\nis_paused = 7", "\0\0\0"] {
            std::fs::write(&file, text).unwrap();
            let anew: Written = read(&file);
            assert!(!anew.is_paused && anew.pass.is_none(), "{text}");
        }
    }
}
