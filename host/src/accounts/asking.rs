//! The thread that asks, those that wait for it, and what it was answered.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    ANSWERS_MAX, Answer, FRESH_FOR, NOBODY_FOR, NameService, Question, RETRY_AFTER, Value, WAIT,
};

/// How many questions wait for the thread at most.
const QUEUE_MAX: usize = 1024;

/// How long the thread waits for another question before it ends.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Asks a name service on a thread of its own.
pub(super) struct Asking {
    service: Box<dyn NameService>,
    state: Mutex<State>,
    /// There is a question for the thread.
    asked: Condvar,
    /// The thread has done with a question.
    answered: Condvar,
}

#[derive(Default)]
struct State {
    answers: Answers,
    queue: VecDeque<Question>,
    /// What is in the queue or being asked.
    pending: HashSet<Question>,
    /// When the question that the thread is at was begun.
    running_since: Option<Instant>,
    has_thread: bool,
}

/// What became of a question so far.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The service's last answer, and until when it is believed unasked.
    answer: Option<(Option<Value>, Instant)>,
    /// When the service failed last.
    failed_at: Option<Instant>,
    /// Until when nobody waits for the service again, and what the machine's own files say meanwhile.
    local: Option<(Option<Value>, Instant)>,
}

/// What was answered, in two generations: when the younger one has half of what may be kept, the older one goes.
#[derive(Default)]
struct Answers {
    young: HashMap<Question, Kept>,
    old: HashMap<Question, Kept>,
}

impl Asking {
    pub(super) fn new(service: impl NameService + 'static) -> Arc<Self> {
        Arc::new(Self {
            service: Box::new(service),
            state: Mutex::default(),
            asked: Condvar::new(),
            answered: Condvar::new(),
        })
    }

    /// Answers from what is kept, or asks and waits for a bounded time.
    pub(super) fn ask(self: &Arc<Self>, question: Question, wait: Duration) -> Answer<Value> {
        let began = Instant::now();
        let is_patient = wait > WAIT;
        let mut state = self.lock();
        loop {
            let kept = state.answers.entry(&question);
            match &kept.answer {
                Some((answer, until)) if began < *until => return answer_of(answer.clone()),
                _ => {}
            }
            let has_failed = kept.failed_at.is_some_and(|at| at >= began);
            let is_put_off = kept.failed_at.is_some_and(|at| began < at + RETRY_AFTER)
                || kept.local.as_ref().is_some_and(|(_, until)| began < *until);
            if has_failed || (is_put_off && !is_patient) {
                break;
            }
            // Who is late with one question is late with all: what waits behind it adds no wait of its own.
            let since = state.running_since.map_or(began, |since| since.min(began));
            let left = (since + wait).saturating_duration_since(Instant::now());
            if !self.request(&mut state, &question) || left.is_zero() {
                break;
            }
            let waited = self.answered.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let kept = state.answers.entry(&question);
        if let Some((Some(value), _)) = &kept.answer {
            // An older answer is better than none; that there was nobody may be over.
            return Answer::Is(value.clone());
        }
        if let Some((local, until)) = &kept.local
            && began < *until
        {
            return local.clone().map_or(Answer::NotNow, Answer::Is);
        }
        drop(state);
        let local = self.service.local(&question);
        let until = Instant::now() + RETRY_AFTER;
        self.lock().answers.entry(&question).local = Some((local.clone(), until));
        local.map_or(Answer::NotNow, Answer::Is)
    }

    /// Puts a question into the queue, once; tells whether it will be asked.
    fn request(self: &Arc<Self>, state: &mut State, question: &Question) -> bool {
        if !state.pending.contains(question) {
            if state.queue.len() >= QUEUE_MAX {
                return false;
            }
            state.pending.insert(question.clone());
            state.queue.push_back(question.clone());
            self.asked.notify_one();
        }
        if !state.has_thread {
            let asking = Arc::clone(self);
            let spawned =
                thread::Builder::new().name("accounts".into()).spawn(move || asking.run());
            if let Err(error) = spawned {
                tracing::warn!(%error, "nobody can ask for names of users and groups");
                return false;
            }
            state.has_thread = true;
        }
        true
    }

    /// Asks one question after the other, until there has been none for a while.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            let Some(question) = state.queue.pop_front() else {
                let waited = self.asked.wait_timeout_while(state, IDLE_MAX, |s| s.queue.is_empty());
                let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = waited;
                if timeout.timed_out() && state.queue.is_empty() {
                    state.has_thread = false;
                    return;
                }
                continue;
            };
            state.running_since = Some(Instant::now());
            drop(state);
            // A module of the name service runs in here, whoever wrote it.
            let asked = catch_unwind(AssertUnwindSafe(|| self.service.ask(&question)));
            state = self.lock();
            state.running_since = None;
            state.pending.remove(&question);
            let now = Instant::now();
            let kept = state.answers.entry(&question);
            match asked {
                Ok(Ok(value)) => {
                    let fresh_for = if value.is_some() { FRESH_FOR } else { NOBODY_FOR };
                    *kept = Kept { answer: Some((value, now + fresh_for)), ..Kept::default() };
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a name service failed");
                    kept.failed_at = Some(now);
                }
                Err(_) => kept.failed_at = Some(now),
            }
            self.answered.notify_all();
        }
    }

    /// Lets no answer be believed without asking any more.
    #[cfg(test)]
    pub(super) fn forget_freshness(&self) {
        let mut state = self.lock();
        let Answers { young, old } = &mut state.answers;
        for kept in young.values_mut().chain(old.values_mut()) {
            if let Some((_, until)) = &mut kept.answer {
                *until = Instant::now();
            }
            kept.local = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

impl Answers {
    /// Returns what is kept of a question.
    fn entry(&mut self, question: &Question) -> &mut Kept {
        if !self.young.contains_key(question) {
            let kept = self.old.remove(question).unwrap_or_default();
            if self.young.len() >= ANSWERS_MAX / 2 {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(question.clone(), kept);
        }
        self.young.entry(question.clone()).or_default()
    }
}

fn answer_of(value: Option<Value>) -> Answer<Value> {
    value.map_or(Answer::Nobody, Answer::Is)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with files of very many users must not fill the memory.
    #[test]
    fn no_more_answers_are_kept_than_may_be() {
        let mut answers = Answers::default();
        let most = u32::try_from(ANSWERS_MAX).unwrap();
        for uid in 0..3 * most {
            answers.entry(&Question::UserName(uid));
            answers.entry(&Question::UserName(7)).failed_at.get_or_insert_with(Instant::now);
            assert!(answers.young.len() + answers.old.len() <= ANSWERS_MAX);
        }
        let often = answers.entry(&Question::UserName(7));
        assert!(often.failed_at.is_some(), "what is asked for often was forgotten");
    }
}
