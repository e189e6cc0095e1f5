//! `_history.csv`: the versions of a name as a table, for those who may read each of them.

use std::{fmt::Write, sync::Arc, time::Duration};

use chrono::SecondsFormat;

use keepshare_base::{FileId, Name, Stamp};
use keepshare_versioning::HistoryEntry;

use crate::{Attributes, Denial, Node, Who, memory::TableKey, names, question::Question};

/// The longest table, in bytes: older lines are left out.
const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a table is taken to hold while other files of the set change: who may read the versions in it may be another
/// then. As long as clients remember attributes.
const RIGHTS_HOLD: Duration = Duration::from_secs(1);

const HEADER: &str = "when,who,size,hash,event,name,until,ended,current\r\n";

impl Question<'_> {
    pub(crate) fn table_attributes(
        &self,
        folder: FileId,
        name: &Name,
    ) -> Result<Attributes, Denial> {
        let node = Node::HistoryTable { folder, name: self.hash(name) };
        self.made_file(node, folder, self.table(folder, name)?.len())
    }

    /// Returns the table's bytes: RFC 4180, with CRLF.
    pub(crate) fn table(&self, folder: FileId, name: &Name) -> Result<Arc<Vec<u8>>, Denial> {
        let reader = match self.who {
            Who::Admin => None,
            Who::User(user) => Some((user.uid, user.gid, user.groups.clone())),
        };
        let key = TableKey { folder, name: name.clone(), reader };
        let (all, place) = (&self.share.tables, (folder, name));
        let as_of = (&self.view, self.now);
        if let Some(known) = all.find(as_of, &key, place, RIGHTS_HOLD)? {
            return Ok(Arc::clone(&known));
        }
        let _turn = self.turn_to_walk()?;
        // Somebody else may have done it meanwhile.
        if let Some(known) = all.find(as_of, &key, place, RIGHTS_HOLD)? {
            return Ok(Arc::clone(&known));
        }
        let table = Arc::new(self.write_table(folder, name)?.into_bytes());
        let weight = table.len();
        Ok(Arc::clone(&*all.keep(as_of, key, place, (table, weight))?))
    }

    fn write_table(&self, folder: FileId, name: &Name) -> Result<String, Denial> {
        let mut table = HEADER.to_owned();
        let history = self.whole_history(folder, name, |entry| {
            let is_shown = names::has_versions(entry.state.meta.kind);
            Ok(is_shown && self.may_read_version(folder, &entry.state)?)
        })?;
        if let Some(since) = self.view.empty_since(folder, name)?
            && let Some(info) = self.view.commit_info(since)?
        {
            let newest = self.view.history(folder, name, 1)?;
            let ended = newest.first().and_then(|entry| entry.held_until);
            let event = ended.map_or("deleted", |(_, ended)| ended.word());
            let who = info.user.as_deref().unwrap_or_default();
            let when = self.when(info.stamp);
            line(&mut table, &[&when, who, "", "", event, &name.to_string(), "", "", ""]);
        }
        for entry in &history {
            let before = table.len();
            self.entry_line(&mut table, entry);
            if table.len() > TABLE_BYTES_MAX {
                table.truncate(before);
                break;
            }
        }
        Ok(table)
    }

    fn entry_line(&self, table: &mut String, entry: &HistoryEntry) {
        let state = &entry.state;
        let (until, ended) = match entry.held_until {
            Some((until, ended)) => (self.when(until), ended.word()),
            None => (String::new(), ""),
        };
        let fields: [&str; 9] = [
            &self.when(state.stamp),
            state.user.as_deref().unwrap_or_default(),
            &state.meta.size.to_string(),
            &state.hash.map(|hash| hash.to_string()).unwrap_or_default(),
            state.event.word(),
            &entry.name.to_string(),
            &until,
            ended,
            if entry.current { "yes" } else { "" },
        ];
        line(table, &fields);
    }

    fn when(&self, stamp: Stamp) -> String {
        let zone = self.share.config.zone;
        let in_zone = |time: chrono::DateTime<chrono::Utc>| {
            time.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Micros, false)
        };
        stamp.to_utc().map_or_else(|| stamp.to_string(), in_zone)
    }
}

fn line(table: &mut String, fields: &[&str]) {
    let fields: Vec<_> = fields.iter().map(|text| field(text)).collect();
    // Writing to a string does not fail.
    let _ = write!(table, "{}\r\n", fields.join(","));
}

/// Writes a field so that it is read as text: what a spreadsheet would take for a formula gets an apostrophe before it.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']);
    let guard = if formula { "'" } else { "" };
    if formula || text.contains([',', ';', '"', '\r', '\n', '\t']) {
        return format!("\"{guard}{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name must not become a formula on the machine of whoever opens the table.
    #[test]
    fn fields_are_text_and_nothing_else() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-1", "\"'-1\""),
            ("+1", "\"'+1\""),
            ("'x", "\"''x\""),
            ("a\r\nb", "\"a\r\nb\""),
            // A spreadsheet may divide a line at these, too.
            ("x;=1+1", "\"x;=1+1\""),
            ("x\t=1+1", "\"x\t=1+1\""),
        ];
        for (text, written) in cases {
            assert_eq!(field(text), written);
        }
    }

    /// What other programs read of a line is what was written, but for the guard before formulas.
    #[test]
    fn lines_are_read_as_they_were_written() {
        let texts =
            ["plain", "", "a,b", "say \"hi\"", "=1+1", "a\r\nb", "x;y", "x\ty", "ends\r", " x "];
        let mut table = String::new();
        line(&mut table, &texts);
        line(&mut table, &texts);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table.as_bytes());
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let read: Vec<&str> =
            texts.iter().map(|text| if *text == "=1+1" { "'=1+1" } else { text }).collect();
        assert_eq!(lines, [csv::StringRecord::from(read.clone()), csv::StringRecord::from(read)]);
    }
}
