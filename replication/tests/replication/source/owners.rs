//! Names of owners, from a directory that does not always answer.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
};

use keepshare_base::{Content, Event};
use keepshare_host::accounts::{MachineAccounts, NameService, Question, Value};
use keepshare_replication::source::{CaptureMode, Source};

use super::support::{Rig, database};

/// A directory in which everybody is called 'anna', that hangs until it is let go.
#[derive(Clone, Default)]
struct Directory(Arc<(Mutex<bool>, Condvar)>);

impl Directory {
    fn answer(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl NameService for Directory {
    fn ask(&self, _: &Question) -> io::Result<Option<Value>> {
        let (answers, changed) = &*self.0;
        drop(changed.wait_while(answers.lock().unwrap(), |answers| !*answers).unwrap());
        Ok(Some(Value::Name("anna".to_owned())))
    }

    fn local(&self, _: &Question) -> Option<Value> {
        None
    }
}

fn reopen(rig: &mut Rig, directory: &Directory) {
    rig.handle.shutdown();
    let database = database(&rig.config).unwrap();
    let accounts = MachineAccounts::of(directory.clone());
    rig.handle = Source::open_with(rig.config.clone(), database, accounts).unwrap();
}

/// Files go on while a directory hangs, and get their owners' names when it answers; a name is never taken from one.
#[test]
fn a_directory_that_hangs_takes_no_name_away() {
    let mut rig = Rig::new(CaptureMode::Auto);
    let directory = Directory::default();
    reopen(&mut rig, &directory);
    std::fs::write(rig.path("plan"), "1").unwrap();
    rig.settle();
    let file = rig.file("plan");
    let owner = |rig: &Rig| {
        let rows = rig.changes.iter().flat_map(|(_, change)| &change.files);
        let row = rows.rev().find(|row| row.file == file);
        row.map(|row| (row.meta.owner.name.clone(), row.event, row.content.clone()))
    };
    assert_eq!(owner(&rig).unwrap().0, "", "it has a name that nobody told");

    directory.answer();
    let anna = |event| Some(("anna".to_owned(), event, Content::Same));
    rig.wait("the owner has a name", |rig| owner(rig) == anna(Event::Attributes));

    let hanging = Directory::default();
    reopen(&mut rig, &hanging);
    rig.begin();
    std::fs::write(rig.path("plan"), "22").unwrap();
    rig.settle();
    assert_eq!(owner(&rig).unwrap().0, "anna", "her name was taken away");
    rig.begin();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    std::fs::set_permissions(rig.path("plan"), mode).unwrap();
    rig.wait("the mode is told", |rig| owner(rig) == anna(Event::Attributes));
    hanging.answer();
}
