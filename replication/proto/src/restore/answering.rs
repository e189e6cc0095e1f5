//! The master's half: takes the content aside, checks it, has it written and answers.

use std::collections::{BTreeMap, VecDeque};

use keepshare_base::{ContentHash, DEPTH_MAX, Kind, PRIVATE_XATTR, RequestId, SetPath};

use super::{
    MasterInput, MasterOutput, RESTORE_CHUNK_BYTES_MAX, RESTORE_PATIENCE, RESTORE_WINDOW_BYTES_MAX,
    RESTORES_MAX, Step,
};
use crate::{Act, Message, MonoTime, RestoreAnswer, RestoreRequest, Text};

/// How many answers are remembered here; older ones are in the journal.
const ANSWERS_KEPT: usize = 64;

/// The restores that one station asked this master for.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    open: BTreeMap<RequestId, Open>,
    answered: VecDeque<(RequestId, RestoreAnswer)>,
    connected: bool,
    steps: Vec<Step<MasterOutput>>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are at most eight")]
enum Open {
    /// The journal is asked whether it was done before.
    LookingUp(RestoreRequest),
    /// Content comes.
    Taking(Box<Taking>),
    /// It is written and journaled; this goes on when the link breaks.
    Finishing {
        /// It was asked for on this link, which has its answer.
        is_asked: bool,
    },
}

#[derive(Debug)]
struct Taking {
    size: u64,
    /// `None`: there is no content.
    hash: Option<ContentHash>,
    hasher: blake3::Hasher,
    got: u64,
    taken: u64,
    deadline: MonoTime,
}

impl Answering {
    pub(crate) fn handle(&mut self, now: MonoTime, input: MasterInput) {
        match input {
            MasterInput::Known { request, answer } => self.on_known(now, request, answer),
            MasterInput::Taken { request, through } => self.on_taken(request, through),
            MasterInput::Done { request, answer } => self.on_done(request, answer),
        }
    }

    pub(crate) fn on_connected(&mut self) {
        self.connected = true;
    }

    /// Forgets what is not complete: the station asks again.
    pub(crate) fn on_disconnected(&mut self) {
        self.connected = false;
        let aborted: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| matches!(open, Open::Taking(_)))
            .map(|(request, _)| *request)
            .collect();
        self.open.retain(|_, open| match open {
            Open::Finishing { is_asked } => {
                *is_asked = false;
                true
            }
            Open::LookingUp(_) | Open::Taking(_) => false,
        });
        aborted.into_iter().for_each(|request| self.drive(MasterOutput::Abort { request }));
    }

    pub(crate) fn on_request(&mut self, request: RestoreRequest) {
        let id = request.request;
        if let Some((_, answer)) = self.answered.iter().find(|(known, _)| *known == id) {
            let answer = answer.clone();
            self.answer(id, answer);
        } else if let Some(open) = self.open.get_mut(&id) {
            // A repeat of what is being done: its answer comes when it is.
            if let Open::Finishing { is_asked } = open {
                *is_asked = true;
            }
        } else if let Err(reason) = check(&request) {
            self.answer(id, RestoreAnswer::Failed(Text::new(reason)));
        } else if self.open.len() >= RESTORES_MAX {
            self.answer(id, RestoreAnswer::NotNow(Text::new("too many restores are under way")));
        } else {
            self.open.insert(id, Open::LookingUp(request));
            self.drive(MasterOutput::LookUp { request: id });
        }
    }

    pub(crate) fn on_data(
        &mut self,
        now: MonoTime,
        request: RequestId,
        offset: u64,
        bytes: Vec<u8>,
    ) {
        // Content may be under way for what was answered or aborted already.
        let Some(open) = self.open.get_mut(&request) else { return };
        if bytes.is_empty() {
            return self.abort(request, "the station gave it up");
        }
        let Open::Taking(taking) = open else {
            return self.abort(request, "content came before it was asked for");
        };
        if let Err(reason) = taking.take(offset, &bytes) {
            return self.abort(request, reason);
        }
        taking.deadline = now + RESTORE_PATIENCE;
        let whole = taking.got == taking.size;
        self.drive(MasterOutput::Content { request, offset, bytes });
        if whole {
            self.finish(request);
        }
    }

    pub(crate) fn on_timeout(&mut self, now: MonoTime) {
        let late = |open: &Open| matches!(open, Open::Taking(taking) if taking.deadline <= now);
        let requests: Vec<_> =
            self.open.iter().filter(|(_, open)| late(open)).map(|(request, _)| *request).collect();
        for request in requests {
            self.abort(request, "the station stopped sending its content");
        }
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.open
            .values()
            .filter_map(|open| match open {
                Open::Taking(taking) => Some(taking.deadline),
                Open::LookingUp(_) | Open::Finishing { .. } => None,
            })
            .min()
    }

    pub(crate) fn take_steps(&mut self) -> Vec<Step<MasterOutput>> {
        std::mem::take(&mut self.steps)
    }

    fn on_known(&mut self, now: MonoTime, request: RequestId, answer: Option<RestoreAnswer>) {
        let Some(open) = self.open.remove(&request) else { return };
        match (open, answer) {
            (Open::LookingUp(_), Some(answer)) => self.keep_and_answer(request, answer, true),
            (Open::LookingUp(asked), None) => {
                let taking = Taking::new(&asked, now + RESTORE_PATIENCE);
                let whole = taking.size == 0;
                self.open.insert(request, Open::Taking(Box::new(taking)));
                self.drive(MasterOutput::Begin(asked));
                self.steps.push(Step::Send(Message::RestoreMore { request, through: 0 }.into()));
                if whole {
                    self.finish(request);
                }
            }
            (other, _) => {
                self.open.insert(request, other);
            }
        }
    }

    fn on_taken(&mut self, request: RequestId, through: u64) {
        if let Some(Open::Taking(taking)) = self.open.get_mut(&request)
            && through > taking.taken
            && through <= taking.got
        {
            taking.taken = through;
            self.steps.push(Step::Send(Message::RestoreMore { request, through }.into()));
        }
    }

    fn on_done(&mut self, request: RequestId, answer: RestoreAnswer) {
        match self.open.remove(&request) {
            Some(Open::Finishing { is_asked }) => self.keep_and_answer(request, answer, is_asked),
            // The driver could not even take it aside.
            Some(Open::Taking(_)) => self.answer(request, answer),
            Some(other @ Open::LookingUp(_)) => {
                self.open.insert(request, other);
            }
            None => {}
        }
    }

    /// Checks that the content is the version's and has it written.
    fn finish(&mut self, request: RequestId) {
        let Some(Open::Taking(taking)) = self.open.get(&request) else { return };
        let hash = ContentHash(*taking.hasher.finalize().as_bytes());
        if taking.hash.is_none_or(|wanted| wanted == hash) {
            self.open.insert(request, Open::Finishing { is_asked: true });
            self.drive(MasterOutput::Finish { request });
        } else {
            // Nor is it when it comes again.
            let reason = Text::new("the content that came is not the version's");
            self.end(request, RestoreAnswer::Failed(reason));
        }
    }

    /// Ends what broke off: the same may be asked again, and nothing was wrong with it.
    fn abort(&mut self, request: RequestId, reason: &str) {
        self.end(request, RestoreAnswer::NotNow(Text::new(reason)));
    }

    /// Ends what is not being written yet.
    fn end(&mut self, request: RequestId, answer: RestoreAnswer) {
        match self.open.remove(&request) {
            Some(Open::Taking(_)) => self.drive(MasterOutput::Abort { request }),
            Some(finishing @ Open::Finishing { .. }) => {
                self.open.insert(request, finishing);
                return;
            }
            Some(Open::LookingUp(_)) | None => {}
        }
        self.answer(request, answer);
    }

    /// A failure changed nothing and may be tried again; anything else is never done twice. A link on which it was not asked for is told
    /// nothing: an answer there would be taken for that to the next request.
    fn keep_and_answer(&mut self, request: RequestId, answer: RestoreAnswer, is_asked: bool) {
        if answer.refusal().is_none() {
            self.answered.truncate(ANSWERS_KEPT - 1);
            self.answered.push_front((request, answer.clone()));
        }
        if is_asked {
            self.answer(request, answer);
        }
    }

    fn answer(&mut self, request: RequestId, answer: RestoreAnswer) {
        if self.connected {
            self.steps.push(Step::Send(Message::RestoreAnswer { request, answer }.into()));
        }
    }

    fn drive(&mut self, output: MasterOutput) {
        self.steps.push(Step::Drive(output));
    }
}

impl Taking {
    fn new(request: &RestoreRequest, deadline: MonoTime) -> Self {
        Self {
            size: request.content_len(),
            hash: (request.act == Act::Write).then_some(request.hash),
            hasher: blake3::Hasher::new(),
            got: 0,
            taken: 0,
            deadline,
        }
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), &'static str> {
        let got = self.got + bytes.len() as u64;
        if offset != self.got || got > self.size {
            return Err("its content came out of order");
        }
        if bytes.len() > RESTORE_CHUNK_BYTES_MAX || got > self.taken + RESTORE_WINDOW_BYTES_MAX {
            return Err("more content came than was asked for");
        }
        self.hasher.update(bytes);
        self.got = got;
        Ok(())
    }
}

fn check(request: &RestoreRequest) -> Result<(), &'static str> {
    check_path(&request.path, &request.act)?;
    let kind = request.meta.kind;
    match &request.act {
        Act::Write if kind != Kind::File => return Err("only files are written back"),
        Act::Make | Act::SetAttributes if !matches!(kind, Kind::Dir | Kind::Symlink) => {
            return Err("only folders and symlinks are made");
        }
        Act::Move(elsewhere) | Act::Link(elsewhere) => {
            check_path(&elsewhere.path, &request.act)?;
        }
        _ => {}
    }
    let is_given = matches!(request.act, Act::Write | Act::Make | Act::SetAttributes);
    let is_mark = |(name, _): &(Vec<u8>, Vec<u8>)| name == PRIVATE_XATTR;
    if is_given && request.meta.xattrs.iter().any(is_mark) {
        // By it a master knows its own folder again.
        return Err("it has an attribute that only the master itself gives");
    }
    request.meta.check().map_err(|_| "its attributes are not usable")
}

fn check_path(path: &SetPath, act: &Act) -> Result<(), &'static str> {
    match (path.names().len(), act) {
        (0, Act::Point { .. } | Act::SetAttributes) => Ok(()),
        (_, Act::Point { .. }) => Err("a point is the whole set's"),
        (1..=DEPTH_MAX, _) => Ok(()),
        _ => Err("its path is not a file's"),
    }
}
