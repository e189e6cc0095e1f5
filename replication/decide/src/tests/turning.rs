//! What a turn goes through, and what it leaves for a round.

use std::convert::Infallible;

use keepshare_base::{FileId, Kind, Meta};

use super::{Folder, Source, at, meta, name};
use crate::{
    Failure, FileRecord, NoFolder, Seen, Touch,
    agenda::FileTask,
    compose::{Got, When},
    look::{Ask, Fact, SeenFile},
    memory::Memory,
    turn::{Content, Listed, Survey, TakePart, Told, Turn},
};

/// Looks at a folder of facts, of which nothing is read.
struct Looker<'a>(&'a Folder);

impl Survey<Memory> for Looker<'_> {
    fn answer(&mut self, map: &Memory, ask: &Ask) -> Result<Fact, Infallible> {
        Ok(self.0.answer(map, ask))
    }

    fn forget_folders(&mut self) {}

    fn is_in_place(&self) -> Result<(), String> {
        Ok(())
    }

    fn list(
        &mut self,
        map: &Memory,
        folder: FileId,
        _: &FileRecord,
    ) -> Result<Result<Listed, NoFolder>, Infallible> {
        let Some(path) = Folder::path(map, folder) else { return Ok(Err(NoFolder::Elsewhere)) };
        let names = self.0.inside(&path).iter().map(|inside| name(inside)).collect();
        Ok(Ok(Listed { names, problems: Vec::new() }))
    }

    fn meta(
        &mut self,
        _: &Memory,
        _: FileId,
        at: &SeenFile,
    ) -> Result<Result<Meta, Failure>, Infallible> {
        Ok(Ok(meta(&at.seen)))
    }

    fn folder_meta(&mut self, _: &Memory, _: FileId) -> Result<Option<(Seen, Meta)>, Infallible> {
        Ok(None)
    }

    fn read(
        &mut self,
        _: &mut Memory,
        content: Content<'_>,
        _: &mut TakePart<'_, Memory>,
    ) -> Result<Got, Infallible> {
        unreachable!("{content:?}")
    }
}

/// Begins a scan and goes through the folders; returns the files that it is done with, and the names left for rounds.
fn scan(source: &mut Source) -> (Vec<String>, Vec<String>) {
    source.agenda.begin_scan();
    let when = When { stamp: keepshare_base::Stamp(9), now: at(900), exact_times: true };
    let mut survey = Looker(&source.folder);
    let mut turn = Turn {
        ledger: &mut source.map,
        survey: &mut survey,
        agenda: &mut source.agenda,
        cutting: &mut source.cutting,
        when,
        told: Told::default(),
        in_itself: false,
    };
    turn.read_folders().unwrap();
    let settled = turn.told.settled.iter().map(|settled| settled.name.to_string()).collect();
    let left = source.agenda.take_names(100);
    (settled, left.iter().map(|(_, name, _)| name.to_string()).collect())
}

/// Nearly all that a scan goes through is as it was: none of that may cost a place on the agenda and a part of a round. What is
/// other than it was has its look all the same.
#[test]
fn a_scan_passes_over_what_it_finds_unchanged() {
    let mut source = Source::new();
    for (path, number) in [("gone", 2), ("linked", 3), ("one", 4), ("two", 5), ("written", 6)] {
        source.folder.make(path, number, Kind::File);
        source.folder.write(path, 100, path);
        source.told(path);
    }
    source.rest(at(0));
    let known = ["gone", "linked", "one", "two", "written"];
    let closed = Touch { closed: true, ..Touch::default() };
    for path in known {
        let file = source.file(path);
        source.agenda.add_file(file, FileTask { touch: closed, ..FileTask::default() });
    }
    source.rest(at(500));
    assert_eq!(scan(&mut source), (known.map(str::to_owned).to_vec(), Vec::new()));

    source.folder.objects.remove("gone");
    source.folder.objects.get_mut("linked").unwrap().links = 2;
    source.folder.make("new", 7, Kind::File);
    source.folder.write("written", 200, "other");
    let settled = ["one", "two"].map(str::to_owned).to_vec();
    let left = ["gone", "linked", "new", "written"].map(str::to_owned).to_vec();
    assert_eq!(scan(&mut source), (settled, left));
}
