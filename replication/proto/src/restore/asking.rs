//! The station's half: asks, and sends the content.

use std::collections::BTreeMap;

use keepshare_base::RequestId;

use super::{
    RESTORE_CHUNK_BYTES_MAX, RESTORE_PATIENCE, RESTORE_WINDOW_BYTES_MAX, RESTORES_MAX, RestoreEnd,
    StationInput, StationOutput, Step,
};
use crate::{Frame, Message, MonoTime, RestoreAnswer, RestoreRequest, Text};

/// The restores that this station asked for and that are not over.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    asked: BTreeMap<RequestId, Asked>,
    /// What was given up here, and the master still answers on this link: each request has one answer.
    owed: BTreeMap<RequestId, Owed>,
    connected: bool,
    steps: Vec<Step<StationOutput>>,
}

#[derive(Debug)]
struct Asked {
    request: RestoreRequest,
    deadline: MonoTime,
    /// The master has had all content, on this link or one before: it may have written it.
    whole: bool,
    phase: Phase,
}

/// An answer that nobody waits for any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owed {
    /// What came of it: whoever asks the same once more is told that.
    Outcome,
    /// That it was given up.
    Nothing,
}

#[derive(Debug, Eq, PartialEq)]
enum Phase {
    /// There is no link; asked again on the next one.
    Unsent,
    /// The master looks whether it did this before.
    Asked,
    /// Content is sent: `next` is read or sent, the master has taken `taken`.
    Sending { next: u64, taken: u64, reading: bool },
    /// All was sent, the answer is the master's to give.
    Sent,
}

impl Asking {
    pub(crate) fn handle(&mut self, now: MonoTime, input: StationInput) {
        match input {
            StationInput::Ask(request) => self.on_ask(now, request),
            StationInput::Content { request, offset, bytes } => {
                self.on_content(now, request, offset, bytes);
            }
            StationInput::Unreadable { request, reason } => {
                self.on_unread(request, RestoreEnd::Unreadable(reason));
            }
            StationInput::NotRead { request, reason } => {
                self.on_unread(request, RestoreEnd::NotAsked(reason));
            }
        }
    }

    /// The master has been welcomed: asks for everything again.
    pub(crate) fn on_connected(&mut self, now: MonoTime) {
        self.connected = true;
        let requests: Vec<_> = self.asked.keys().copied().collect();
        requests.into_iter().for_each(|request| self.send_request(now, request));
    }

    pub(crate) fn on_disconnected(&mut self) {
        self.connected = false;
        self.owed.clear();
        for asked in self.asked.values_mut() {
            asked.phase = Phase::Unsent;
        }
    }

    /// The master has taken the content up to `through`.
    pub(crate) fn on_more(&mut self, now: MonoTime, request: RequestId, through: u64) {
        let Some(asked) = self.asked.get_mut(&request) else { return };
        match &mut asked.phase {
            Phase::Asked => asked.phase = Phase::Sending { next: 0, taken: 0, reading: false },
            Phase::Sending { next, taken, .. } if (*taken + 1..=*next).contains(&through) => {
                *taken = through;
            }
            Phase::Unsent | Phase::Sending { .. } | Phase::Sent => return,
        }
        asked.deadline = now + RESTORE_PATIENCE;
        self.read_on(request);
    }

    pub(crate) fn on_answer(&mut self, request: RequestId, answer: RestoreAnswer) {
        // One that is not open was given up here and answered late.
        if self.owed.remove(&request) != Some(Owed::Nothing) && self.asked.contains_key(&request) {
            self.end(request, RestoreEnd::Answered(answer));
        }
    }

    pub(crate) fn on_timeout(&mut self, now: MonoTime) {
        let late: Vec<_> =
            self.asked.iter().filter(|(_, a)| a.deadline <= now).map(|(r, _)| *r).collect();
        for request in late {
            let end = if self.asked[&request].whole {
                RestoreEnd::Unknown(Text::new("the master did not answer in time"))
            } else {
                RestoreEnd::NotAsked(Text::new("the master did not take the content in time"))
            };
            self.give_up(request, end);
        }
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.asked.values().map(|asked| asked.deadline).min()
    }

    pub(crate) fn take_steps(&mut self) -> Vec<Step<StationOutput>> {
        std::mem::take(&mut self.steps)
    }

    fn on_ask(&mut self, now: MonoTime, request: RestoreRequest) {
        let id = request.request;
        if self.asked.contains_key(&id) {
            return;
        }
        let owed = self.owed.get(&id).copied();
        let refused = if !self.connected {
            Some("the master is not connected")
        } else if owed == Some(Owed::Nothing) {
            Some("the master is still to say that it gave up what it was asked before")
        } else if owed.is_none() && self.asked.len() + self.owed.len() >= RESTORES_MAX {
            Some("too many restores are under way")
        } else {
            None
        };
        if let Some(reason) = refused {
            let end = RestoreEnd::NotAsked(Text::new(reason));
            self.steps.push(Step::Drive(StationOutput::Ended { request: id, end }));
            return;
        }
        let deadline = now + RESTORE_PATIENCE;
        if self.owed.remove(&id).is_some() {
            // The master is at it: its answer is the answer to this.
            self.asked.insert(id, Asked { request, deadline, whole: true, phase: Phase::Sent });
            return;
        }
        let phase = Phase::Unsent;
        self.asked.insert(id, Asked { request, deadline, whole: false, phase });
        self.send_request(now, id);
    }

    fn send_request(&mut self, now: MonoTime, request: RequestId) {
        let Some(asked) = self.asked.get_mut(&request) else { return };
        let message = Message::RestoreRequest(asked.request.clone());
        self.steps.push(Step::Send(message.into()));
        asked.deadline = now + RESTORE_PATIENCE;
        asked.phase = Phase::Asked;
    }

    fn read_on(&mut self, request: RequestId) {
        let Some(asked) = self.asked.get_mut(&request) else { return };
        let size = asked.request.content_len();
        let Phase::Sending { next, taken, reading } = &mut asked.phase else { return };
        if *next >= size {
            asked.phase = Phase::Sent;
            asked.whole = true;
            return;
        }
        let room = (*taken + RESTORE_WINDOW_BYTES_MAX).min(size).saturating_sub(*next);
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(RESTORE_CHUNK_BYTES_MAX);
        if !*reading && len > 0 {
            *reading = true;
            let output = StationOutput::ReadVersion { request, offset: *next, len };
            self.steps.push(Step::Drive(output));
        }
    }

    fn on_content(&mut self, now: MonoTime, request: RequestId, offset: u64, bytes: Vec<u8>) {
        let Some(asked) = self.asked.get_mut(&request) else { return };
        let Phase::Sending { next, reading, .. } = &mut asked.phase else { return };
        // What was read for a link that is gone.
        if offset != *next || !*reading || bytes.is_empty() {
            return;
        }
        *reading = false;
        *next += bytes.len() as u64;
        asked.deadline = now + RESTORE_PATIENCE;
        let message = Message::RestoreData { request, offset };
        self.steps.push(Step::Send(Frame { message, payload: bytes }));
        self.read_on(request);
    }

    fn on_unread(&mut self, request: RequestId, end: RestoreEnd) {
        if self.asked.contains_key(&request) {
            self.give_up(request, end);
        }
    }

    /// Ends it here, and at the master where that can still matter.
    fn give_up(&mut self, request: RequestId, end: RestoreEnd) {
        let offset = match self.asked.get(&request).map(|asked| &asked.phase) {
            Some(Phase::Asked) => 0,
            Some(Phase::Sending { next, .. }) => *next,
            Some(Phase::Sent) => {
                self.owed.insert(request, Owed::Outcome);
                return self.end(request, end);
            }
            Some(Phase::Unsent) | None => return self.end(request, end),
        };
        self.owed.insert(request, Owed::Nothing);
        self.steps.push(Step::Send(Message::RestoreData { request, offset }.into()));
        self.end(request, end);
    }

    fn end(&mut self, request: RequestId, end: RestoreEnd) {
        self.asked.remove(&request);
        self.steps.push(Step::Drive(StationOutput::Ended { request, end }));
    }
}
