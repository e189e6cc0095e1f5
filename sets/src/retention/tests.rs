use super::*;

/// What a night would not do it does not do the next night either: somebody must be told.
#[test]
fn why_a_run_was_refused_is_told_until_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let set: SetName = "work".parse().unwrap();
    let (_stop, stopping) = watch::channel(false);
    let retention = Retention::open(&set, dir.path(), stopping);
    assert_eq!(retention.trouble(), None);
    let refused = RetentionRun::refused(clock::now().to_string(), "too many".to_owned());
    let ran = |run: RetentionRun| retention.write(|written| written.last_run = Some(run));
    ran(refused.clone()).unwrap();
    assert_eq!(retention.trouble(), None, "it waits for a plan to be applied");
    ran(RetentionRun { help: Some("look".to_owned()), ..refused.clone() }).unwrap();
    assert_eq!(retention.trouble().as_deref(), Some("too many; look"));
    ran(RetentionRun { refused: None, ..refused }).unwrap();
    assert_eq!(retention.trouble(), None);
}

/// Only what an admin has once applied is made up for, and a run by hand is a run.
#[test]
fn a_run_is_due_that_was_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (_stop, stopping) = watch::channel(false);
    let retention = Retention::open(&"work".parse().unwrap(), dir.path(), stopping);
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let (night, day) = (at("2026-11-30T00:00:00Z"), "2026-11-30T09:00:00.000000Z");
    assert!(!retention.is_due_since(night), "no plan was applied");
    let applied = |time: &str| {
        let run = RetentionRun::refused(time.to_owned(), "too many".to_owned());
        retention.write(|written| {
            written.applied = Some(Policy::default().to_string());
            written.last_run = Some(RetentionRun { by_itself: false, ..run });
        })
    };
    applied("2026-11-29T23:59:59.000000Z").unwrap();
    assert!(retention.is_due_since(night));
    applied(day).unwrap();
    assert!(!retention.is_due_since(night));
}

#[test]
fn a_policy_stays_written() {
    let dir = tempfile::tempdir().unwrap();
    let set: SetName = "work".parse().unwrap();
    let (_stop, stopping) = watch::channel(false);
    let open = || Retention::open(&set, dir.path(), stopping.clone());
    let retention = open();
    assert!(!retention.standing().unwrap().is_set);
    retention.set(&["last=20".to_owned()], false, false).unwrap();
    let refused = retention.set(&["last=3".to_owned()], false, false).unwrap_err();
    assert_eq!(refused.code, Code::Refused);
    assert_eq!(open().standing().unwrap().policy.last(), 20);
    retention.set(&["last=3".to_owned()], false, true).unwrap();
    retention.set(&[], true, false).unwrap();
    assert_eq!(open().standing().unwrap().policy, Policy::default());
    // A file that cannot be read is no reason to thin by another policy.
    for text in ["format = 1\npolicy = \"lats=3\"", "format = 4", "format = 1\nelse = 1", ""] {
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let unread = open();
        assert!(unread.standing().is_err() && unread.trouble().is_some(), "{text:?}");
        assert!(unread.set(&["last=5".to_owned()], false, true).is_err(), "{text:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
    }
}
