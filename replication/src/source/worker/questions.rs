//! Whoever asks how a source is gets an answer that is true of the moment of the question.

use std::time::{Duration, Instant};

use keepshare_base::FileId;
use keepshare_decide::agenda::FileTask;

use super::Worker;
use crate::source::{
    shared::{Reply, lock},
    sweeper::Sweeper,
};

/// For how long an answer is worth anything to whoever asked.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// Somebody waits until everything is examined that was noticed before the question.
pub(super) struct Question {
    reply: Reply<()>,
    number: u64,
    asked: Instant,
    drained: bool,
    swept: bool,
}

impl Question {
    /// Capture had nothing left to tell.
    pub(super) fn drained(&mut self) {
        self.drained = true;
    }
}

impl Worker {
    /// Takes a question. Files that are open for writing raise no events: they are looked at because of it.
    pub(super) fn ask(&mut self, reply: Reply<()>) {
        self.questions.retain(|question| question.asked.elapsed() < ASKED_FOR);
        self.asked += 1;
        let number = self.asked;
        let sweeper = self.sweeper.as_ref().filter(|_| {
            self.attached.is_some() && lock(&self.shared.sweep).shown_open(Instant::now()).0 > 0
        });
        // They are written back for it, which may take long: not in this thread.
        sweeper.inspect(|sweeper| sweeper.ask(number));
        let (asked, swept) = (Instant::now(), sweeper.is_none());
        self.questions.push(Question { reply, number, asked, drained: false, swept });
    }

    /// Hears that open files were looked at for a question; what changed of them was told before.
    pub(super) fn swept(&mut self, number: u64) {
        let earlier = self.questions.iter_mut().filter(|question| question.number <= number);
        earlier.for_each(|question| question.swept = true);
    }

    /// Answers what can be answered.
    pub(super) fn answer_questions(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        // Where nobody looks, an alarm says so.
        let is_away = self.attached.is_none();
        if !is_away && self.dirty() > 0 {
            return;
        }
        let (answered, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.questions)
            .into_iter()
            .partition(|q| is_away || q.drained && q.swept);
        self.questions = waiting;
        for question in answered {
            // Whoever asked may have gone away.
            drop(question.reply.send(Ok(())));
        }
    }

    /// Returns how much is marked and not yet examined.
    pub(super) fn dirty(&self) -> usize {
        self.pending.len() + self.marks.len() + self.unread_replaced()
    }

    /// Begins to ask which files are open for writing.
    pub(super) fn begin_sweeps(&mut self) {
        match Sweeper::start(&self.shared) {
            Ok(sweeper) => self.sweeper = Some(sweeper),
            Err(error) => {
                tracing::error!(%error, "cannot start a thread: open files are not looked at");
            }
        }
    }

    /// Looks at files that are, or were, open for writing.
    pub(super) fn compare(&mut self, files: Vec<(FileId, bool)>) {
        if self.attached.is_some() {
            for (file, verify) in files {
                let task = FileTask { verify, suspect: true, ..FileTask::default() };
                self.pending.agenda.add_file(file, task);
            }
        }
    }
}
