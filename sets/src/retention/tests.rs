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
