//! `keepshare point check`: a command looks at what a point has.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process,
};

use anyhow::Context;

use keepshare_control::{
    Code, Failure, Outcome,
    client::Client,
    points::{PointInfo, Verdict, find},
    questions::{Export, Location, PointList, PointMark},
};

use crate::{
    cli::point::PointCheck,
    commands::restore::extract,
    extract::when_interrupted,
    output::{Screen, safe},
};

/// The exit code where a point was found bad.
const BAD: i32 = 1;

/// Gives a command a copy of what a point has, in a folder of its own that nobody else can enter, and notes what that found. Where the
/// command could not be run, or did not end by itself, nothing is noted.
pub(super) fn check(station: &Client, options: PointCheck, screen: &Screen) -> Outcome<()> {
    let PointCheck { set, point, path, within, command } = options;
    let known = station.ask_all(&PointList { set: Some(set.clone()) })?;
    let found = match &point {
        Some(point) => find(&known, &set, point)?,
        None => known.last().ok_or_else(|| {
            Failure::not_found(format!("set {set} has no points"))
                .hint(format!("keepshare point create {set} NAME makes one"))
        })?,
    };
    let path = path.map(|path| path.as_bytes().to_vec()).unwrap_or_default();
    let place = Location::Set { set: set.clone(), path };
    let within = within.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("keepshare-point-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&within)
        .with_context(|| format!("cannot make a folder in {}", within.display()))?;
    let copy = folder.path().join("point");
    let all = folder.path().to_owned();
    // What is still being written may be in the way of that.
    when_interrupted(move || {
        let _ = (0..10).find(|_| remove(&all).is_ok());
    })?;
    let export = Export { place, when: format!("point:{}", found.id), content: true };
    let (extractor, _) = extract(station, &export, (&copy, false), |_| Ok(()), screen)?;
    if let Some(problem) = extractor.problems.first() {
        remove(folder.path())?;
        let failure =
            Failure::new(Code::Failed, format!("the point could not be copied: {problem}"));
        return Err(failure.hint("nothing was noted; --in names a folder with more room"));
    }
    drop(extractor);
    let is_good = run(&command, &copy, found);
    remove(folder.path())?;
    let is_good = is_good?;
    let verdict = Some(if is_good { Verdict::Good } else { Verdict::Bad });
    let by = command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let marked =
        station.ask_one(&PointMark { set, point: found.id.clone(), verdict, by: Some(by) })?;
    screen.value(&marked, told)?;
    if is_good {
        return Ok(());
    }
    process::exit(BAD)
}

/// Runs what looks at the copy; tells whether it found that good.
fn run(command: &[OsString], copy: &Path, point: &PointInfo) -> Outcome<bool> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| Failure::usage("no command is named"))?;
    let shown = safe(&program.to_string_lossy());
    // A path is one of where it was typed: in the copy is what users wrote, and nothing of that is run.
    let program = match program.as_bytes().contains(&b'/') {
        true => {
            std::path::absolute(program).with_context(|| format!("cannot tell where {shown} is"))?
        }
        false => program.into(),
    };
    let mut child = process::Command::new(program)
        .args(arguments)
        .current_dir(copy)
        .env("KEEPSHARE_SET", &point.set)
        .env("KEEPSHARE_POINT", &point.point)
        .env("KEEPSHARE_POINT_ID", &point.id)
        .env("KEEPSHARE_POINT_TIME", &point.time)
        // Standard output is the verdict's.
        .stdout(io::stderr())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let status = child.wait().context("cannot wait for the command")?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(code == 0),
        (None, signal) => {
            let signal = signal.map(|signal| format!(" by signal {signal}")).unwrap_or_default();
            Err(Failure::new(Code::Failed, format!("{shown} was ended{signal}"))
                .hint("nothing was noted of the point"))
        }
    }
}

/// Removes the copy, folders that nobody may write in included.
fn remove(copy: &Path) -> Outcome<()> {
    if fs::remove_dir_all(copy).is_ok() {
        return Ok(());
    }
    open_up(copy);
    Ok(fs::remove_dir_all(copy).with_context(|| format!("cannot remove {}", copy.display()))?)
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Says what was noted.
pub(super) fn told(marked: &PointInfo) -> String {
    let (point, set) = (safe(&marked.point), &marked.set);
    match marked.verdict {
        Some(Verdict::Good) => format!("Point {point} of set {set} is good.\n"),
        Some(Verdict::Bad) => format!("Point {point} of set {set} is bad.\n"),
        None => format!("Of point {point} of set {set} nothing is known any more.\n"),
    }
}

/// What a verdict is called in lists.
pub(super) fn word(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Good) => "good",
        Some(Verdict::Bad) => "bad",
        None => "-",
    }
}
