use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

use super::*;

/// A directory with one user, that answers, fails, or hangs.
#[derive(Clone)]
struct Directory(Arc<(Mutex<Mood>, Condvar)>);

#[derive(Clone, Copy, Eq, PartialEq)]
enum Mood {
    Answers,
    Fails,
    Hangs,
}

impl Directory {
    fn new(mood: Mood) -> Self {
        Self(Arc::new((Mutex::new(mood), Condvar::new())))
    }

    fn turns(&self, mood: Mood) {
        *self.0.0.lock().unwrap() = mood;
        self.0.1.notify_all();
    }
}

impl NameService for Directory {
    fn ask(&self, question: &Question) -> io::Result<Option<Value>> {
        let (mood, turned) = &*self.0;
        let hanging = |mood: &mut Mood| *mood == Mood::Hangs;
        let mood = *turned.wait_while(mood.lock().unwrap(), hanging).unwrap();
        match (mood, question) {
            (Mood::Fails, _) => Err(io::ErrorKind::NotConnected.into()),
            (_, Question::UserName(5000)) => Ok(Some(Value::Name("anna".to_owned()))),
            (_, Question::UserNumber(name)) if name == "anna" => Ok(Some(Value::Number(5000))),
            _ => Ok(None),
        }
    }

    fn local(&self, question: &Question) -> Option<Value> {
        (*question == Question::UserName(0)).then(|| Value::Name("root".to_owned()))
    }
}

/// Waits until the directory's answer is there, however long this machine takes for that.
fn until(accounts: &MachineAccounts, uid: u32, answer: &Answer<String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while accounts.patient().user_name(uid) != *answer {
        assert!(Instant::now() < deadline, "{uid} is never {answer:?}");
    }
}

fn anna() -> Answer<String> {
    Answer::Is("anna".to_owned())
}

/// Users of a directory have names, too; who is in none is nobody.
#[test]
fn a_directory_is_asked() {
    let accounts = MachineAccounts::of(Directory::new(Mood::Answers)).patient();
    assert_eq!(accounts.user_name(5000), anna());
    assert_eq!(accounts.uid("anna"), Answer::Is(5000));
    assert_eq!(accounts.user_name(5001), Answer::Nobody);
    assert_eq!(accounts.gid("anna"), Answer::Nobody);
    assert_eq!(accounts.shown_user(5001), "5001");
}

/// A directory that hangs holds up nobody for long, takes no local user's name away, and is not taken for one that knows
/// nobody.
#[test]
fn a_directory_that_hangs_is_waited_for_once() {
    let directory = Directory::new(Mood::Hangs);
    let accounts = MachineAccounts::of(directory.clone());
    let began = Instant::now();
    assert_eq!(accounts.user_name(5000), Answer::NotNow);
    assert!(began.elapsed() >= WAIT, "nobody waited for the directory");
    let waits = u32::try_from(
        (6000..8000)
            .filter(|uid| {
                let began = Instant::now();
                assert_eq!(accounts.user_name(*uid), Answer::NotNow);
                began.elapsed() >= WAIT
            })
            .count(),
    )
    .unwrap();
    assert!(waits < 100, "{waits} of 2000 questions were waited for");
    assert_eq!(accounts.user_name(0), Answer::Is("root".to_owned()));
    directory.turns(Mood::Answers);
    until(&accounts, 5000, &anna());
    until(&accounts, 6000, &Answer::Nobody);
}

/// What a directory said once is used while it does not answer.
#[test]
fn an_older_answer_is_better_than_none() {
    let directory = Directory::new(Mood::Answers);
    let accounts = MachineAccounts::of(directory.clone());
    until(&accounts, 5000, &anna());
    until(&accounts, 5001, &Answer::Nobody);
    for mood in [Mood::Fails, Mood::Hangs] {
        directory.turns(mood);
        accounts.asking.forget_freshness();
        assert_eq!(accounts.user_name(5000), anna());
        assert_eq!(accounts.user_name(5001), Answer::NotNow, "somebody may have it by now");
    }
}

/// A failure is no answer, and the question is asked again.
#[test]
fn a_failure_is_not_taken_for_nobody() {
    let directory = Directory::new(Mood::Fails);
    let accounts = MachineAccounts::of(directory.clone());
    assert_eq!(accounts.patient().user_name(5000), Answer::NotNow);
    directory.turns(Mood::Answers);
    until(&accounts, 5000, &anna());
    assert_eq!(accounts.user_name(5000), anna(), "for those who do not wait, too");
}

/// Names come from other machines: what can be no name is not even asked for.
#[test]
fn what_is_no_name_is_nobodys() {
    let accounts = MachineAccounts::of(Directory::new(Mood::Hangs));
    for name in ["", "a:b", "a\0b", "a\nb", "../anna", &"a".repeat(257)] {
        assert_eq!(accounts.uid(name), Answer::Nobody, "{name:?}");
    }
}
