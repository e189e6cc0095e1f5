//! What is printed: a table for people, or a line of JSON per measure.

use std::io::{self, Write};

use anyhow::{Result, bail};
use serde_json::json;

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    Times,
    /// So many in a second.
    Rate,
    /// So many bytes in a second.
    ByteRate,
}

/// One measure of one work.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) measure: &'static str,
    pub(crate) unit: Unit,
    pub(crate) ours: f64,
    /// The same of whom we are measured beside, where it has such a thing.
    pub(crate) peer: Option<f64>,
}

/// Collects the measures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    rows: Vec<Row>,
    failed: Vec<&'static str>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), failed: Vec::new() }
    }

    /// Adds a measure.
    pub(crate) fn row(&mut self, row: Row) -> Result<()> {
        if self.json {
            let (work, measure, unit) = (row.work, row.measure, row.unit.name());
            let (ours, peer, ratio) = (row.ours, row.peer, row.ratio());
            print(&format!(
                "{}\n",
                json!({"work": work, "measure": measure, "unit": unit, "keepshare": ours,
                       "peer": peer, "ratio": ratio})
            ))?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Says that a work could not be measured.
    pub(crate) fn failed(&mut self, work: &'static str, error: &anyhow::Error) -> Result<()> {
        eprintln!("{work} failed: {error:#}");
        self.failed.push(work);
        if self.json {
            print(&format!("{}\n", json!({"work": work, "failed": format!("{error:#}")})))?;
        }
        Ok(())
    }

    /// Prints what is left to print; an error when a work failed.
    pub(crate) fn finish(&self) -> Result<()> {
        if !self.json {
            print(&self.table())?;
        }
        if !self.failed.is_empty() {
            bail!("not measured: {}", self.failed.join(", "));
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{:<13} {:<34} {:>12} {:>12} {:>8}\n",
            "work", "measure", "keepshare", "peer", "ratio"
        );
        for row in &self.rows {
            let peer = row.peer.map_or_else(|| "–".to_owned(), |number| row.unit.show(number));
            let ratio = row.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
            let ours = row.unit.show(row.ours);
            text +=
                &format!("{:<13} {:<34} {ours:>12} {peer:>12} {ratio:>8}\n", row.work, row.measure);
        }
        text
    }
}

impl Row {
    /// Returns ours ÷ the peer's: below 1 is good, but for rates.
    fn ratio(&self) -> Option<f64> {
        self.peer.filter(|peer| *peer > 0.0).map(|peer| self.ours / peer)
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "B",
            Self::Times => "x",
            Self::Rate => "/s",
            Self::ByteRate => "B/s",
        }
    }

    fn show(self, number: f64) -> String {
        match self {
            Self::Seconds if number < 1e-4 => format!("{:.2} µs", number * 1e6),
            Self::Seconds if number < 0.1 => format!("{:.2} ms", number * 1e3),
            Self::Seconds => format!("{number:.2} s"),
            Self::Bytes if number >= 1e6 => format!("{:.2} MB", number / 1e6),
            Self::Bytes if number >= 1e3 => format!("{:.2} kB", number / 1e3),
            Self::Bytes => format!("{number:.0} B"),
            Self::Times => format!("{number:.2} x"),
            Self::Rate if number >= 1e4 => format!("{:.1} k/s", number / 1e3),
            Self::Rate => format!("{number:.0} /s"),
            Self::ByteRate => format!("{:.1} MiB/s", number / (1 << 20) as f64),
        }
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
