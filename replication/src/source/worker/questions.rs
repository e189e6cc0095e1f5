//! Whoever asks how a source is gets an answer that is true of the moment of the question.

use std::time::{Duration, Instant};

use keepshare_base::{FileId, PointRow};
use keepshare_decide::agenda::FileTask;

use super::Worker;
use crate::source::{
    PointMade,
    shared::{Reply, lock},
    sweeper::Sweeper,
};

/// For how long an answer is worth anything to whoever asked.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// For how long a point waits for what was noticed before it. Where people never stop writing it is made all the same: what is being
/// written belongs to no moment before.
const POINT_PATIENCE: Duration = Duration::from_secs(5);

/// Somebody waits until everything is examined that was noticed before the question.
pub(super) struct Question {
    wants: Wants,
    number: u64,
    asked: Instant,
    drained: bool,
    swept: bool,
}

/// What is wanted then.
enum Wants {
    /// To hear of it.
    Word(Reply<()>),
    /// A point: what is to be said of it.
    Point(PointRow, Reply<PointMade>),
}

impl Question {
    /// Tells whether nothing that was noticed before it can still be unknown, but for what is marked.
    fn is_heard(&self) -> bool {
        self.drained && self.swept
    }

    /// Tells whether it is worth nothing any more, or not to be waited with any longer.
    fn is_over(&self) -> bool {
        self.asked.elapsed()
            >= match self.wants {
                Wants::Word(_) => ASKED_FOR,
                Wants::Point(..) => POINT_PATIENCE,
            }
    }

    /// Capture had nothing left to tell.
    pub(super) fn drained(&mut self) {
        self.drained = true;
    }
}

impl Worker {
    /// Takes a question. Files that are open for writing raise no events: they are looked at because of it.
    pub(super) fn ask(&mut self, reply: Reply<()>) {
        let is_left = |question: &Question| match question.wants {
            Wants::Word(_) => !question.is_over(),
            Wants::Point(..) => true,
        };
        self.questions.retain(is_left);
        self.put_question(Wants::Word(reply));
    }

    /// Takes the wish for a point: it is made when all that was done until now is examined.
    pub(super) fn ask_point(&mut self, row: PointRow, reply: Reply<PointMade>) {
        self.put_question(Wants::Point(row, reply));
    }

    /// Tells whether somebody waits for a point.
    pub(super) fn has_points(&self) -> bool {
        self.questions.iter().any(|question| matches!(question.wants, Wants::Point(..)))
    }

    fn put_question(&mut self, wants: Wants) {
        self.asked += 1;
        let number = self.asked;
        let sweeper = self.sweeper.as_ref().filter(|_| {
            self.attached.is_some() && lock(&self.shared.sweep).shown_open(Instant::now()).0 > 0
        });
        // They are written back for it, which may take long: not in this thread.
        sweeper.inspect(|sweeper| sweeper.ask(number));
        let (asked, swept) = (Instant::now(), sweeper.is_none());
        self.questions.push(Question { wants, number, asked, drained: false, swept });
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
        let is_quiet = is_away || self.dirty() == 0;
        let is_answered = |question: &mut Question| match question.wants {
            Wants::Word(_) => is_quiet && (is_away || question.is_heard()),
            Wants::Point(..) => is_away || question.is_over() || is_quiet && question.is_heard(),
        };
        let answered: Vec<Question> = self.questions.extract_if(.., is_answered).collect();
        for Question { wants, .. } in answered {
            // Whoever asked may have gone away.
            match wants {
                Wants::Word(reply) => drop(reply.send(Ok(()))),
                Wants::Point(row, reply) => drop(reply.send(self.make_point(row))),
            }
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
