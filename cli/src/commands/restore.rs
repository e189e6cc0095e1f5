//! `keepshare restore`.

use std::path::Path;

use keepshare_control::{
    Code, Failure, Outcome,
    answers::{Progress, Restored, Uncut},
    client::{Client, Piece},
    questions::{Export, Location, Restore},
};

use crate::{
    cli,
    commands::uncut,
    extract::Extractor,
    output::{Screen, bytes_text, safe},
};

/// Brings something back: into a folder, or in place through the set's master.
pub(crate) fn restore(
    station: &Client,
    place: Location,
    when: String,
    options: &cli::Restore,
    screen: &Screen,
) -> Outcome<()> {
    match &options.to {
        Some(dir) => restore_to(station, place, when, dir, options.force, screen),
        None => restore_in_place(station, place, when, screen),
    }
}

fn restore_in_place(
    station: &Client,
    place: Location,
    when: String,
    screen: &Screen,
) -> Outcome<()> {
    let restored: Restored = station.ask_one(&Restore { place, when })?;
    screen.value(&restored, told)
}

/// Says what came of a restore in place, and no more than is known.
fn told(restored: &Restored) -> String {
    let (path, version) = (safe(&restored.path), &restored.version);
    if restored.outcome == "equal" {
        return format!("{path} has the content of {version} already.\n");
    }
    let mut text = match restored.on_its_way {
        false => format!("{path} is as it was in {version}; that is a new version now.\n"),
        true => format!(
            "{path} is on the master as it was in {version}. The new version has not arrived here yet: keepshare versions \
             {}:{path} shows it when it has, keepshare status what keeps it.\n",
            restored.set
        ),
    };
    if restored.still_open {
        text += "The file that it replaced is still open by a writer: what that writes into it becomes a version, too.\n";
    }
    text
}

fn restore_to(
    station: &Client,
    place: Location,
    when: String,
    dir: &Path,
    force: bool,
    screen: &Screen,
) -> Outcome<()> {
    let asked = Export { place, when, content: true };
    let begun = |extractor: &Extractor| extractor.unfinished().remove_when_interrupted();
    let (extractor, uncut) = extract(station, &asked, (dir, force), begun, screen)?;
    report(&extractor, &uncut, dir, screen)
}

/// What is told of files that were not cut, by their names.
type AllUncut = Vec<(String, Option<Uncut>)>;

/// Writes what is asked for into a folder, with a bar; `begun` is done when that was made. What could not be written is in what is
/// returned.
pub(crate) fn extract(
    station: &Client,
    asked: &Export,
    (dir, force): (&Path, bool),
    begun: impl Fn(&Extractor) -> Outcome<()>,
    screen: &Screen,
) -> Outcome<(Extractor, AllUncut)> {
    let mut answer = station.ask(asked)?;
    let bar = screen.bar();
    let mut out: Option<Extractor> = None;
    let mut received = 0_u64;
    let mut uncut = Vec::new();
    while let Some(piece) = answer.next_piece()? {
        if let Piece::Item(entry) = &piece
            && entry.uncut.is_some()
        {
            uncut.push((uncut::shown(entry), entry.uncut.clone()));
        }
        match (piece, &mut out) {
            (Piece::Item(entry), Some(extractor)) => extractor.entry(entry)?,
            // The folder is made only when there is something to put into it.
            (Piece::Item(entry), None) => {
                let whole = entry.path.is_empty();
                let extractor = out.insert(Extractor::open(dir, whole, force)?);
                begun(extractor)?;
                extractor.entry(entry)?;
            }
            (Piece::Data(data), Some(extractor)) => {
                received += data.len() as u64;
                extractor.data(&data)?;
            }
            (Piece::Data(_), None) => return Err(empty_answer()),
            (Piece::Progress(_), _) => {}
        }
        let count = out.as_ref().map_or(0, |extractor| extractor.written);
        let doing = format!("restoring {}, bytes", files_text(count));
        bar.show(&Progress { doing, done: received, total: None });
    }
    let mut extractor = out.ok_or_else(empty_answer)?;
    extractor.finish()?;
    bar.finish();
    Ok((extractor, uncut))
}

fn files_text(count: u64) -> String {
    match count {
        1 => "1 file or folder".to_owned(),
        count => format!("{count} files and folders"),
    }
}

fn empty_answer() -> Failure {
    Failure::new(Code::Failed, "the station gave an empty answer")
}

fn report(
    extractor: &Extractor,
    uncut: &[(String, Option<Uncut>)],
    dir: &Path,
    screen: &Screen,
) -> Outcome<()> {
    let uncut_paths: Vec<&String> = uncut.iter().map(|(path, _)| path).collect();
    let summary = serde_json::json!({
        "to": dir.to_string_lossy(),
        "written": extractor.written,
        "bytes": extractor.bytes,
        "owners": extractor.gives_owners(),
        "problems": extractor.problems,
        "left_out": extractor.left_out,
        "skipped": extractor.skipped,
        "uncut": uncut_paths,
    });
    screen.value(&summary, |_| {
        let (files, dir) = (files_text(extractor.written), safe(&dir.to_string_lossy()));
        let size = bytes_text(extractor.bytes);
        let owners = match extractor.gives_owners() {
            true => "",
            false => "Owners were not restored: only root can give files away.\n",
        };
        format!("Restored {files}, {size}, into {dir}.\n{owners}")
    })?;
    if !extractor.left_out.is_empty() {
        screen.notes("the folder's file system did not take all attributes:", &extractor.left_out);
    }
    if !extractor.skipped.is_empty() {
        screen.notes("pipes, sockets and devices are not restored:", &extractor.skipped);
    }
    uncut::tell(uncut, screen);
    if extractor.problems.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(Code::Failed, "not everything could be restored");
    failure.chain.extend(extractor.problems.iter().take(PROBLEMS_MAX).cloned());
    let more = extractor.problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        failure.chain.push(format!("and {more} more; --json lists them all"));
    }
    Err(failure.hint(match extractor.is_damaged {
        true => "what is listed is missing in the folder; keepshare fsck tells more",
        false => "what is listed is missing in the folder, all else is there: restore it into another one",
    }))
}

/// How much of what is missing is listed.
const PROBLEMS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody is told of a version that nobody has seen.
    #[test]
    fn a_version_that_has_not_come_back_is_not_claimed() {
        let mut restored = Restored {
            set: "work".into(),
            path: "a".into(),
            version: "1.1.7".into(),
            outcome: "written".into(),
            still_open: false,
            on_its_way: false,
        };
        assert!(told(&restored).contains("that is a new version now"));
        restored.on_its_way = true;
        let text = told(&restored);
        assert!(
            !text.contains("a new version now") && text.contains("not arrived here yet"),
            "{text}"
        );
        assert!(text.contains("keepshare versions work:a shows it"), "{text}");
    }
}
