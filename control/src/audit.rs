//! What is answered about the audit log.

use serde::{Deserialize, Serialize};

/// A line of the audit log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number in the chain; none of one that was written before lines had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// When, RFC 3339, UTC.
    #[serde(default)]
    pub time: String,
    /// What happened.
    #[serde(default)]
    pub event: String,
    /// Whether it was done.
    #[serde(default)]
    pub ok: bool,
    /// Why not, or why it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// From where: an address, or `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Of which set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// By which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Where in the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What was asked for, in the words of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Lines of this event before this one that were not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<u64>,
    /// Where a line stands that cannot be read; nothing else is known of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// What a check of the audit log found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditReport {
    /// No fault was found, and every head that was kept elsewhere is the log's.
    pub ok: bool,
    /// How many lines there are.
    pub lines: u64,
    /// How many of them were written before lines hung together.
    pub before_chain: u64,
    /// The number of the first line of the chain that is still kept.
    pub first: Option<u64>,
    /// What the chain ends with, `COUNT:HASH`.
    pub head: Option<String>,
    /// How many bytes of half a line stand at the end, as after a crash.
    pub torn_bytes: u64,
    /// How many lines say that something of the log was lost in a crash, or on a full disk.
    pub torn_lines: u64,
    /// The first fault.
    pub fault: Option<AuditFault>,
    /// What the log says of heads that were kept elsewhere.
    pub heads: Vec<AuditHeadSaid>,
    /// Stations that could not be asked which heads they keep.
    pub unasked: Vec<String>,
}

/// What is not as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditFault {
    /// In which file.
    pub file: String,
    /// At which line of it, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// What the log says of a head that was kept elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditHeadSaid {
    /// Which station keeps it; none of one that was typed.
    pub station: Option<String>,
    /// `COUNT:HASH`.
    pub head: String,
    /// Since when, RFC 3339, by that station's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// What was found of it.
    pub found: AuditHeadFound,
}

/// What was found of a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditHeadFound {
    /// The line is what it was, and so are all before it.
    Same,
    /// The line is another one: it, or one before it, was written anew.
    Other,
    /// The log ends before it: its end was cut off.
    Missing,
    /// The line was in a file that is kept no more.
    Gone,
    /// It is behind a fault.
    Unjudged,
    /// It was lost when the station was brought back from a backup, which the log says.
    LostInRestore,
}

/// A head of an audit log, as a station tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditHead {
    /// Whose log.
    pub station: String,
    /// `COUNT:HASH`.
    pub head: String,
    /// Since when it is kept, RFC 3339; none of the log of whoever tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}
