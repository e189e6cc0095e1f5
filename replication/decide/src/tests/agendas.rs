//! When something is looked at, and in how many places it waits.

use std::time::Duration;

use keepshare_base::FileId;

use super::{at, id, name, suspect};
use crate::{
    Touch,
    agenda::{
        Agenda, FileTask, NameTask, RACY_LOOK, RETRY, SECOND_LOOK, WRITTEN_EVERY, WRITTEN_FOR,
    },
};

const ROOT: FileId = FileId::ROOT;

fn gone() -> NameTask {
    NameTask { second: true, ..NameTask::default() }
}

fn astray() -> NameTask {
    NameTask { is_astray: true, ..NameTask::default() }
}

/// A name is looked at once for all that is told of it, and its task says all of it.
#[test]
fn a_name_waits_in_one_place() {
    let mut agenda = Agenda::default();
    agenda.put_name_off(at(20), ROOT, name("a"), astray());
    let modified = Touch { modified: true, ..Touch::default() };
    let told = NameTask { touch: modified, ..NameTask::default() };
    agenda.add_name(ROOT, name("a"), told);
    assert_eq!(agenda.len(), 1);
    let taken = agenda.take_names(10);
    assert_eq!(taken.len(), 1);
    assert!(taken[0].2.touch.modified && !taken[0].2.is_astray);
    agenda.take_due(at(100));
    assert!(agenda.is_empty() && !agenda.is_busy());
}

/// What may hide a change is compared when its time has come, or with the next look at it.
#[test]
fn a_file_that_is_told_of_is_compared_with_that_look() {
    let mut agenda = Agenda::default();
    let verify = FileTask { verify: true, ..FileTask::default() };
    agenda.put_file_off(at(0) + RACY_LOOK, id(1), verify);
    agenda.take_due(at(0));
    assert!(!agenda.is_busy());
    assert_eq!(agenda.next_deadline(), Some(at(0) + RACY_LOOK));
    agenda.add_file(id(1), FileTask::default());
    assert_eq!(agenda.take_files(10), [(id(1), verify)]);
    assert!(agenda.is_empty());
}

/// A name that shows nothing waits for what may have moved: told names, folders that are new, and what is astray, but for that
/// not for ever.
#[test]
fn what_is_gone_is_looked_at_after_all_that_may_show_where_it_is() {
    let mut agenda = Agenda::default();
    agenda.look_again(at(0), vec![(ROOT, name("gone"), gone())]);
    agenda.take_due(at(0));
    assert!(agenda.take_names(10).is_empty(), "not before a moment has passed");
    agenda.take_due(at(0) + SECOND_LOOK);
    agenda.add_name(ROOT, name("told"), NameTask::default());
    assert_eq!(agenda.take_names(10)[0].1, name("told"));
    agenda.put_folder_off(at(4) + RETRY, id(9), false);
    agenda.take_due(at(5));
    assert!(agenda.take_names(10).is_empty(), "a folder is astray");
    agenda.take_due(at(4) + Duration::from_millis(101));
    assert_eq!(agenda.take_folder(), Some((id(9), false)));
    agenda.put_folder_off(at(10_000), id(9), false);
    let rounds = rounds_until(&mut agenda, at(4) + Duration::from_millis(102), "gone");
    assert!(rounds > 2, "each round may show what is in a new folder");
}

/// Takes rounds until one has this name, and returns how many; each takes longer than anything waits.
fn rounds_until(agenda: &mut Agenda, from: keepshare_proto::MonoTime, wanted: &str) -> u32 {
    let mut now = from;
    for round in 0..20 {
        agenda.take_due(now);
        if agenda.take_names(10).iter().any(|(_, taken, _)| *taken == name(wanted)) {
            return round;
        }
        now = now + Duration::from_millis(200);
    }
    panic!("it waits for ever: {agenda:?}");
}

/// Somebody always does something somewhere: what is gone is not there for ever for that.
#[test]
fn what_is_gone_goes_while_others_are_told() {
    let mut agenda = Agenda::default();
    agenda.look_again(at(0), vec![(ROOT, name("gone"), gone())]);
    let mut now = at(0);
    let goes = (0..20).any(|round| {
        now = now + Duration::from_millis(30);
        agenda.take_due(now);
        agenda.add_name(ROOT, name(&format!("told {round}")), NameTask::default());
        agenda.take_names(10).iter().any(|(_, taken, _)| *taken == name("gone"))
    });
    assert!(goes, "it waits for ever: {agenda:?}");
}

/// Something happened to it since: the first look counts for nothing.
#[test]
fn a_name_that_is_told_again_has_its_first_look_again() {
    let mut source = super::Source::new();
    source.agenda.look_again(at(0), vec![(ROOT, name("a"), gone())]);
    let mut marks = crate::Marks::default();
    marks.name(1, b"a", Touch::default());
    source.agenda.resolve(at(1), &mut marks, &source.map).unwrap();
    assert!(!source.agenda.take_names(10)[0].2.second);
    source.agenda.take_due(at(100));
    assert!(source.agenda.is_empty());
}

/// Nobody can be told that it is there by a name that no set can hold: its folder is read for it, as soon as it is told of.
#[test]
fn a_name_that_no_set_can_hold_has_its_folder_read() {
    let mut source = super::Source::new();
    let mut marks = crate::Marks::default();
    let too_long = format!("@versions{}", "~".repeat(246));
    marks.name(1, too_long.as_bytes(), Touch::default());
    source.agenda.resolve(at(0), &mut marks, &source.map).unwrap();
    assert_eq!(source.agenda.take_folder(), Some((ROOT, false)));
    assert!(source.agenda.is_empty(), "there is no name to look at");
}

/// A scan that asks for it again and again, as for a name on the way to a folder that is astray, does not begin it anew.
#[test]
fn a_name_that_waits_for_its_second_look_is_not_put_back() {
    let mut agenda = Agenda::default();
    agenda.look_again(at(0), vec![(ROOT, name("d"), gone())]);
    for millis in [0, 1, 2] {
        agenda.add_name(ROOT, name("d"), NameTask::default());
        agenda.take_due(at(millis));
        assert!(agenda.take_names(10).is_empty());
    }
    agenda.take_due(at(4));
    agenda.add_name(ROOT, name("d"), NameTask::default());
    assert!(agenda.take_names(10)[0].2.second);
    assert!(agenda.is_empty());
}

/// A scan ends when all of it was looked at: what it did not find twice, and what was astray too.
#[test]
fn a_scan_ends_after_what_it_put_off() {
    let mut agenda = Agenda::default();
    agenda.begin_scan();
    assert!(!agenda.end_scan() && agenda.is_busy());
    assert_eq!(agenda.take_folder(), Some((ROOT, true)));
    agenda.take_files(10);
    let scan = NameTask { scan: true, ..NameTask::default() };
    let names = vec![
        (ROOT, name("gone"), NameTask { second: true, ..scan }),
        (id(5), name("x"), NameTask { is_astray: true, ..scan }),
    ];
    agenda.look_again(at(0), names);
    assert!(!agenda.end_scan(), "what it did not find is looked at again");
    agenda.take_due(at(200));
    assert_eq!(agenda.take_names(10)[0].1, name("x"));
    assert!(!agenda.end_scan());
    agenda.take_due(at(201));
    assert_eq!(agenda.take_names(10)[0].1, name("gone"));
    assert!(agenda.end_scan());
    assert!(!agenda.is_busy() && agenda.is_empty());
}

/// The folder that a name waits for may itself be among what the scan did not find: neither waits for the other.
#[test]
fn a_scan_does_not_wait_for_what_waits_for_it() {
    let mut agenda = Agenda::default();
    agenda.begin_scan();
    agenda.take_folder();
    agenda.take_files(10);
    let scan = NameTask { scan: true, ..NameTask::default() };
    let mut now = at(0);
    for _ in 0..3 {
        agenda.look_again(now, vec![(ROOT, name("d"), NameTask { second: true, ..scan })]);
        assert!(!agenda.end_scan());
        let is_looked_at = (0..20).any(|_| {
            agenda.put_folder_off(now + RETRY, id(5), true);
            now = now + Duration::from_millis(200);
            agenda.take_due(now);
            assert!(agenda.take_folder().is_some());
            let taken = agenda.take_names(10);
            taken.iter().any(|(_, taken, task)| *taken == name("d") && task.second)
        });
        assert!(is_looked_at);
    }
    assert!(agenda.end_scan());
}

/// Stores through a memory map leave no event: what was written is looked at for a while, and then no more.
#[test]
fn what_was_written_is_looked_at_for_a_while() {
    let mut agenda = Agenda::default();
    agenda.was_written(at(0), id(1));
    let mut looks = 0;
    let mut now = at(0);
    while let Some(next) = agenda.next_deadline() {
        now = now.max(next);
        agenda.take_due(now);
        looks += agenda.take_files(10).iter().filter(|(_, task)| *task == suspect()).count();
        now = now + Duration::from_millis(1);
    }
    let most = WRITTEN_FOR.as_millis() / WRITTEN_EVERY.as_millis();
    assert!((25..=most as usize).contains(&looks), "{looks} looks");
}
