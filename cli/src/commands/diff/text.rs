//! What is different in two texts, line by line, as `diff -u` writes it.
//!
//! Memory is bounded by the sizes and the lines that are compared: for two texts at both bounds some 200 MiB, for ordinary ones a
//! few times their size. Time is bounded by [`PATIENCE`]: after it the rest counts as changed altogether, which is right, and longer
//! than it need be.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use similar::{
    Algorithm, DiffOp, DiffTag,
    algorithms::{Capture, Compact, DiffHook, Replace, diff_deadline},
    group_diff_ops,
};

use crate::output::safe;

/// The longest file that is compared line by line, in bytes.
pub(super) const TEXT_BYTES_MAX: u64 = 8 << 20;

/// The most lines that are compared.
pub(super) const LINES_MAX: usize = 500_000;

/// How much of a file says whether it is text.
const LOOKED_AT_BYTES: usize = 64 << 10;

/// How long changes are searched for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most steps that putting changes in their best place may take, which has no deadline: changes times lines.
const COMPACTED_MAX: usize = 50_000_000;

/// What is different in two texts.
pub(super) struct TextDiff {
    /// Hunks with their headers; empty where nothing is.
    pub(super) bytes: Vec<u8>,
    /// It took too long to find the fewest changes.
    pub(super) is_rough: bool,
}

/// Tells whether content is text, as Git does: no NUL byte is near its beginning. Which encoding it has is not looked at.
pub(super) fn is_text(content: &[u8]) -> bool {
    !content[..content.len().min(LOOKED_AT_BYTES)].contains(&0)
}

/// Compares two texts, called by these names, and shows `context` lines around each change; `None` where there are too many lines.
pub(super) fn compare(
    (then, now): (&[u8], &[u8]),
    names: (&str, &str),
    context: usize,
) -> Option<TextDiff> {
    let (then, now) = (lines(then)?, lines(now)?);
    let until = Instant::now() + PATIENCE;
    let ops = changes(&then, &now, until);
    let is_rough = Instant::now() > until;
    let mut bytes = Vec::new();
    // Nothing that is written into memory fails.
    write_hunks(&mut bytes, (&then, &now), names, group_diff_ops(ops, context)).ok()?;
    Some(TextDiff { bytes, is_rough })
}

/// Returns lines with their ends; `None` where there are too many.
fn lines(text: &[u8]) -> Option<Vec<&[u8]>> {
    let lines: Vec<&[u8]> =
        text.split_inclusive(|byte| *byte == b'\n').take(LINES_MAX + 1).collect();
    (lines.len() <= LINES_MAX).then_some(lines)
}

/// Finds what makes one text of the other.
fn changes(then: &[&[u8]], now: &[&[u8]], until: Instant) -> Vec<DiffOp> {
    let (then, now) = numbered(then, now);
    let mut found = Replace::new(Capture::new());
    let all = (0..then.len(), 0..now.len());
    let Ok(()) =
        diff_deadline(Algorithm::Myers, &mut found, &then, all.0, &now, all.1, Some(until));
    let ops = found.into_inner().into_ops();
    if ops.len().saturating_mul(then.len() + now.len()) > COMPACTED_MAX {
        return ops;
    }
    let mut compact = Compact::new(Replace::new(Capture::new()), &then, &now);
    for op in &ops {
        let Ok(()) = op.apply_to_hook(&mut compact);
    }
    let Ok(()) = compact.finish();
    compact.into_inner().into_inner().into_ops()
}

/// Gives equal lines equal numbers, so that to compare two costs the same however long they are.
fn numbered<'t>(then: &[&'t [u8]], now: &[&'t [u8]]) -> (Vec<usize>, Vec<usize>) {
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut number = |line: &&'t [u8]| {
        let next = numbers.len();
        *numbers.entry(line).or_insert(next)
    };
    let then = then.iter().map(&mut number).collect();
    (then, now.iter().map(&mut number).collect())
}

fn write_hunks(
    out: &mut Vec<u8>,
    (then, now): (&[&[u8]], &[&[u8]]),
    names: (&str, &str),
    hunks: Vec<Vec<DiffOp>>,
) -> io::Result<()> {
    for (at, hunk) in hunks.iter().enumerate() {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        if at == 0 {
            write!(out, "--- {}\n+++ {}\n", safe(names.0), safe(names.1))?;
        }
        let old = shown_range(first.old_range().start, last.old_range().end);
        let new = shown_range(first.new_range().start, last.new_range().end);
        writeln!(out, "@@ -{old} +{new} @@")?;
        for op in hunk {
            let (tag, old, new) = op.as_tag_tuple();
            match tag {
                DiffTag::Equal => write_lines(out, b' ', &then[old]),
                DiffTag::Delete | DiffTag::Insert | DiffTag::Replace => {
                    write_lines(out, b'-', &then[old]);
                    write_lines(out, b'+', &now[new]);
                }
            }
        }
    }
    Ok(())
}

/// Returns which lines a hunk has, as its header says it: from 1, and before which line where it has none.
fn shown_range(from: usize, to: usize) -> String {
    match to - from {
        0 => format!("{from},0"),
        1 => format!("{}", from + 1),
        count => format!("{},{count}", from + 1),
    }
}

fn write_lines(out: &mut Vec<u8>, sign: u8, lines: &[&[u8]]) {
    for line in lines {
        out.push(sign);
        out.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            out.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}

/// Returns lines with everything escaped that could steer a terminal, tabs left out; what is no UTF-8 by its number.
pub(super) fn for_terminal(lines: &[u8]) -> String {
    let mut shown = String::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let (line, end) = match line.strip_suffix(b"\n") {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        for chunk in line.utf8_chunks() {
            let parts: Vec<String> = chunk.valid().split('\t').map(safe).collect();
            shown += &parts.join("\t");
            shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        shown += end;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(then: &str, now: &str, context: usize) -> String {
        let found = compare((then.as_bytes(), now.as_bytes()), ("a", "b"), context).unwrap();
        assert!(!found.is_rough);
        String::from_utf8(found.bytes).unwrap()
    }

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let then = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let now = then.replace("5\n", "five\n");
        let around = "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        assert_eq!(diff(then, &now, 3), around);
        assert_eq!(diff(then, &now, 0), "--- a\n+++ b\n@@ -5 +5 @@\n-5\n+five\n");
        assert_eq!(diff(then, then, 3), "");
        assert_eq!(diff("", "", 3), "");
    }

    /// As `patch` reads it.
    #[test]
    fn the_ends_of_texts_are_as_diff_writes_them() {
        assert_eq!(diff("", "a\n", 3), "--- a\n+++ b\n@@ -0,0 +1 @@\n+a\n");
        assert_eq!(diff("a\nb\n", "", 3), "--- a\n+++ b\n@@ -1,2 +0,0 @@\n-a\n-b\n");
        let end = "\\ No newline at end of file\n";
        assert_eq!(
            diff("a\nb", "a\nb\n", 1),
            format!("--- a\n+++ b\n@@ -1,2 +1,2 @@\n a\n-b\n{end}+b\n")
        );
        assert_eq!(diff("a\n1\n", "a\n1\n2\n", 0), "--- a\n+++ b\n@@ -2,0 +3 @@\n+2\n");
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let then: String = (0..40).map(|line| format!("{line}\n")).collect();
        let now = then.replace("3\n4\n", "3\nx\n4\n").replace("30\n", "");
        let text = diff(&then, &now, 3);
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
        assert!(text.contains("\n+x\n") && text.contains("\n-30\n"), "{text}");
        assert_eq!(diff(&then, &now, 1_000_000).matches("@@ -").count(), 1);
    }

    /// Git's rule: text in whatever encoding has no NUL.
    #[test]
    fn what_has_a_nul_near_its_beginning_is_no_text() {
        assert!(is_text(b"") && is_text(b"gr\xfc\xdfe\n") && is_text(b"\x1b[2J"));
        assert!(
            !is_text(b"PK\0\x03")
                && !is_text(
                    "a".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice()
                )
        );
        let late = [vec![b'x'; LOOKED_AT_BYTES], vec![0]].concat();
        assert!(is_text(&late));
    }

    #[test]
    fn what_lines_hold_cannot_steer_the_terminal() {
        let shown = for_terminal(b"-\ta\x1b]0;x\x07\r\n+gr\xfc\xdf \xc2\x9b2J\n");
        assert_eq!(shown, "-\ta\\u{1b}]0;x\\u{7}\\r\n+gr\\xfc\\xdf \\u{9b}2J\n");
        assert_eq!(for_terminal("+grüße 山\n end".as_bytes()), "+grüße 山\n end");
        let names = ("a\n+b", "\u{1b}c");
        let found = compare((b"x\n", b"y\n"), names, 3).unwrap().bytes;
        assert!(found.starts_with(b"--- a\\n+b\n+++ \\u{1b}c\n@@ "));
    }

    /// Whoever makes two files that are hard to compare makes nobody wait.
    #[test]
    fn hostile_texts_are_compared_in_time() {
        let mut seed = 1_u64;
        let mut text = || -> Vec<u8> {
            let mut line = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                [b'a' + u8::try_from(seed >> 62).unwrap(), b'\n']
            };
            (0..LINES_MAX).flat_map(|_| line()).collect()
        };
        let (then, now) = (text(), text());
        let begin = Instant::now();
        let found = compare((&then, &now), ("a", "b"), LINES_MAX).unwrap();
        assert!(begin.elapsed() < PATIENCE * 6, "{:?}", begin.elapsed());
        // It is right all the same: one hunk of all lines, which has both texts in it.
        let side = |sign: u8| -> Vec<u8> {
            let lines = found.bytes.split_inclusive(|byte| *byte == b'\n').skip(3);
            lines
                .filter(|line| [b' ', sign].contains(&line[0]))
                .flat_map(|line| &line[1..])
                .copied()
                .collect()
        };
        assert!(side(b'-') == then && side(b'+') == now);
        assert!(compare((&[then.as_slice(), b"x"].concat(), b""), ("a", "b"), 3).is_none());
    }
}
