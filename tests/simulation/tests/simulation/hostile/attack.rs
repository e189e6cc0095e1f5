//! A master that was taken over and means harm.
//!
//! It knows all that the archive's own master knew, and sees what the station has: what it says fits nearly always, since
//! what does not fit at all is refused at once and meets nothing.

use keepshare_base::{
    Change, Epoch, FilledChange, Position, RequestId, RunningHash, Seq, SetPath, VersionId,
};
use keepshare_proto::{
    Act, Frame, Message, MirrorReason, Place, Refusal, RestoreAnswer, RestoreRequest, Step, Text,
};
use keepshare_versioning::disk::sim::Crash;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{
    bytes::{damage, to_bytes, twist, with_hostile_name},
    honest::{Edit, Honest, hello},
    keeper::Keeper,
    rows::{Known, stamp},
    station::{ORIGIN, SECOND, Station},
};

/// The most messages of one stream.
const STEPS_MAX: usize = 60;

/// How many pings come at once when many come.
const PINGS: usize = 3000;

/// An attack under way.
pub(crate) struct Attack<'a> {
    pub(crate) rng: &'a mut StdRng,
    pub(crate) station: &'a mut Station,
    pub(crate) keeper: &'a mut Keeper,
    known: Known,
    /// What the honest master would have gone on with.
    master: Honest,
    /// Everything that it ever sent, as bytes.
    said: Vec<Vec<u8>>,
    /// Where the mirror leads that was begun, and its last part.
    mirror: Option<(Place, u64)>,
    requests: u8,
}

impl<'a> Attack<'a> {
    /// Begins one against an archive and its master's name.
    pub(crate) fn new(
        rng: &'a mut StdRng,
        station: &'a mut Station,
        keeper: &'a mut Keeper,
        master: Honest,
    ) -> Self {
        let known = Known::of(&master, station.folders.ways_out());
        let said = master.said.clone();
        Self { rng, station, keeper, known, master, said, mirror: None, requests: 0 }
    }

    /// Sends one stream after the other; now and then looks that everything is there.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.rng.random_range(20..=STEPS_MAX) {
            if !self.station.is_connected() {
                self.begin();
            }
            self.step();
            match self.rng.random_range(0..40) {
                // A look while much is under way, then one when all is done.
                0..=5 => self.station.nudge(),
                6 => self.look(),
                _ => self.station.settle(),
            }
            if self.station.read().iter().any(is_listed) && self.rng.random_bool(0.9) {
                self.send(&Message::ListMore { pages: 8 }.into());
                self.station.settle();
            }
        }
        self.station.settle();
        self.station.disconnect();
    }

    fn look(&mut self) {
        self.station.settle();
        let reader = self.station.reader();
        self.keeper.check(&reader, false);
        self.keeper.note(&reader);
    }

    /// Connects and greets, as it should or not.
    fn begin(&mut self) {
        let fence = self.station.view().position(ORIGIN).unwrap().map_or(Epoch::FIRST, |p| p.fence);
        let (next, highest) = self.places();
        // Where the last place is taken, only another epoch leads on.
        let is_at_end = highest.epoch == fence && highest.seq >= Seq::MAX || next.seq > Seq::MAX;
        let epoch = match self.rng.random_range(0..60) {
            0..=2 => fence.next(),
            _ if is_at_end => fence.next(),
            7 => Epoch::new(fence.number() + Epoch::JUMP_MAX).unwrap_or(fence),
            8 => Epoch::new(fence.number() + Epoch::JUMP_MAX + 1).unwrap_or(fence),
            9 => Epoch::MAX,
            10 => Epoch::new(u64::MAX).unwrap_or(fence),
            11 => Epoch::FIRST,
            _ => fence,
        };
        self.mirror = None;
        self.station.connect();
        let mut frame: Frame = hello(epoch, Seq(self.rng.random_range(0..100))).into();
        if self.rng.random_bool(0.03) {
            twist(self.rng, &mut frame);
        }
        self.send(&frame);
        if self.rng.random_bool(0.95) {
            self.station.settle();
        }
    }

    fn step(&mut self) {
        let place = self.station.view().position(ORIGIN).unwrap();
        let goes_on = place.is_some_and(|place| {
            place.mirror.is_none() && place.last.is_some_and(|(epoch, ..)| epoch == place.fence)
        });
        match self.rng.random_range(0..100) {
            // A mirror goes on, now and then with another one's beginning.
            0..=35 | 38..=44 if self.mirror.is_some() && self.rng.random_bool(0.95) => self.part(),
            0..=29 if !goes_on && self.rng.random_bool(0.95) => self.mirror_start(),
            0..=29 => self.next(),
            30..=44 => self.mirror_start(),
            45..=64 => self.part(),
            65..=69 => self.replay(),
            70..=73 => self.honest_mirror(),
            74..=77 => self.honest_change(),
            78..=79 => self.hostile_name(),
            80..=82 => self.small_talk(),
            83..=84 => self.restore(),
            85..=86 => self.pings(),
            87 => self.burst(),
            88..=91 => self.time_passes(),
            92..=93 => self.crash(),
            94 => self.station.set_full(true),
            95 => self.noise(),
            _ => self.station.disconnect(),
        }
    }

    /// Returns the place that the next change of the station's epoch has, and the highest one that there is.
    fn places(&self) -> (Position, Position) {
        let view = self.station.view();
        let place = view.position(ORIGIN).unwrap();
        let fence = place.map_or(Epoch::FIRST, |place| place.fence);
        let of = |(epoch, seq): (Epoch, Seq)| Position { origin: ORIGIN, epoch, seq };
        let last = place.and_then(|place| place.last).map(|(epoch, seq, _)| (epoch, seq));
        let next = match last {
            Some((epoch, seq)) if epoch == fence => seq.next(),
            _ => Seq(1),
        };
        let highest = view.highest(ORIGIN).unwrap().max(last).unwrap_or((fence, Seq(0)));
        (of((fence, next)), of(highest))
    }

    fn send(&mut self, frame: &Frame) {
        let bytes = to_bytes(self.rng, frame);
        self.send_bytes(bytes);
    }

    fn send_bytes(&mut self, bytes: Vec<u8>) {
        if self.rng.random_bool(0.02) {
            let other = self.said.choose(self.rng).cloned().unwrap_or_default();
            let damaged = damage(self.rng, bytes, &other);
            return self.station.receive(&damaged);
        }
        if self.rng.random_bool(0.1) {
            // In two pieces, and maybe never the second.
            let (first, second) = bytes.split_at(self.rng.random_range(0..=bytes.len()));
            self.station.receive(first);
            if self.rng.random_bool(0.9) {
                self.station.receive(second);
            }
        } else {
            self.station.receive(&bytes);
        }
        if self.rng.random_bool(0.02) {
            self.station.receive(&bytes);
        }
    }

    fn change(&mut self, position: Position, running: RunningHash, step: Step) -> Frame {
        let FilledChange { change, payload } = self.known.change(self.rng, position).filled;
        Frame { message: Message::Change { position, running, step, change }, payload }
    }

    /// The next change, or one that is not.
    fn next(&mut self) {
        let (mut position, _) = self.places();
        match self.rng.random_range(0..30) {
            0 => position.seq = Seq(self.rng.random_range(0..80)),
            1 => position.seq = Seq(u64::MAX),
            2 => position.seq = position.seq.next(),
            3 => position.epoch = position.epoch.next(),
            _ => {}
        }
        let running = RunningHash([self.rng.random(); 32]);
        let frame = self.change(position, running, Step::Next);
        self.send(&frame);
    }

    /// A mirror to a place above everything, or to one that is taken, the running one's for a start.
    fn mirror_start(&mut self) {
        let (_, highest) = self.places();
        let fence = self.places().0.epoch;
        let above = if highest.epoch == fence { highest.seq } else { Seq(0) };
        let mirror = self.station.view().position(ORIGIN).unwrap().and_then(|it| it.mirror);
        let seq = match self.rng.random_range(0..80) {
            0..=3 => above,
            4 | 5 => Seq(above.0.saturating_add(self.rng.random_range(1..1000))),
            6..=11 => mirror.map_or(above.next(), |mirror| mirror.seq),
            20..=23 => Seq(self.rng.random_range(0..80)),
            24 => Seq::MAX,
            25 => Seq(u64::MAX),
            26 => Seq((1 << 62) + 1),
            _ => above.next(),
        };
        let epoch = if self.rng.random_bool(0.95) { fence } else { highest.epoch.next() };
        let at = Place { epoch, seq, running: RunningHash([self.rng.random(); 32]) };
        let stamp = stamp(self.rng);
        self.mirror = Some((at, 0));
        self.send(&Message::MirrorStart { at, stamp, reason: MirrorReason::Asked }.into());
        if self.rng.random_bool(0.9) {
            self.station.settle();
        }
    }

    /// A part of the mirror, its end, or one that is out of order.
    fn part(&mut self) {
        let Some((at, last)) = self.mirror else { return self.mirror_start() };
        let number = match self.rng.random_range(0..30) {
            0 => last,
            1 => last.wrapping_add(2),
            2 => u64::MAX,
            _ => last.wrapping_add(1),
        };
        let step = match self.rng.random_range(0..5) {
            0 => Step::Last { number },
            _ => Step::Part { number },
        };
        let mut position = Position { origin: ORIGIN, epoch: at.epoch, seq: at.seq };
        let mut running = at.running;
        match self.rng.random_range(0..40) {
            0 => position.seq = position.seq.next(),
            1 => running.0[0] ^= 1,
            _ => {}
        }
        self.mirror = match step {
            Step::Last { .. } => None,
            Step::Next | Step::Part { .. } => Some((at, number)),
        };
        let frame = self.change(position, running, step);
        self.send(&frame);
    }

    /// What the archive's master said once, as it was or damaged.
    fn replay(&mut self) {
        let from = self.rng.random_range(0..self.said.len());
        for at in from..(from + self.rng.random_range(1..6)).min(self.said.len()) {
            let mut bytes = self.said[at].clone();
            if self.rng.random_bool(0.5) {
                let other = self.said.choose(self.rng).cloned().unwrap_or_default();
                bytes = damage(self.rng, bytes, &other);
            }
            self.station.receive(&bytes);
            self.station.settle();
        }
    }

    /// A change that the honest master could have sent, at the right place, with one thing twisted.
    fn honest_change(&mut self) {
        let (next, _) = self.places();
        for ahead in 0..self.rng.random_range(1..5) {
            let edit = self.master.random_edit(self.rng);
            let mut frame = self.master.journal(self.station, edit);
            if let Message::Change { position, .. } = &mut frame.message {
                *position = Position { seq: Seq(next.seq.0.saturating_add(ahead)), ..next };
            }
            if self.rng.random_bool(0.4) {
                twist(self.rng, &mut frame);
            }
            self.send(&frame);
        }
    }

    /// A mirror as the honest master makes one, with parts left out, twisted, twice or in another order.
    fn honest_mirror(&mut self) {
        let (next, highest) = self.places();
        let above = if highest.epoch == next.epoch { highest.seq } else { Seq(0) };
        let mut names = Vec::new();
        let view = self.station.view();
        for (parent, entry) in view.names_after(None, 500).unwrap() {
            let (name, file, kind) = (entry.name, entry.file, entry.kind);
            names.push(keepshare_proto::NameLine { parent, name, file, kind });
        }
        drop(view);
        (self.master.epoch, self.master.seq) = (next.epoch, above);
        let mut start = self.master.begin_mirror(self.station);
        let mut parts = self.master.mirror_parts(&names);
        if self.rng.random_bool(0.3) {
            let (a, b) =
                (self.rng.random_range(0..parts.len()), self.rng.random_range(0..parts.len()));
            parts.swap(a, b);
        }
        let mut frames = self.master.part_frames(self.station, parts);
        if self.rng.random_bool(0.3) {
            twist(self.rng, &mut start);
        }
        match self.rng.random_range(0..4) {
            0 => drop(frames.remove(self.rng.random_range(0..frames.len()))),
            1 => {
                let at = self.rng.random_range(0..frames.len());
                frames.insert(at, frames[at].clone());
            }
            2 => frames.truncate(self.rng.random_range(0..=frames.len())),
            _ => {}
        }
        self.send(&start);
        self.station.settle();
        for mut frame in frames {
            if self.rng.random_bool(0.1) {
                twist(self.rng, &mut frame);
            }
            self.send(&frame);
            if self.rng.random_bool(0.2) {
                self.station.settle();
            }
        }
    }

    fn hostile_name(&mut self) {
        let (position, _) = self.places();
        let (at, step) = match self.mirror {
            Some((at, last)) if self.rng.random() => {
                (Position { seq: at.seq, ..position }, Step::Part { number: last.wrapping_add(1) })
            }
            _ => (position, Step::Next),
        };
        let frame = self.change(at, RunningHash::EMPTY, step);
        let bytes = with_hostile_name(self.rng, &frame, keepshare_base::FileId::ROOT);
        self.station.receive(&bytes);
    }

    /// What is no change.
    fn small_talk(&mut self) {
        let (position, _) = self.places();
        let request = RequestId([self.rng.random_range(0..4); 32]);
        let through = Seq(self.rng.random());
        let messages = [
            Message::Ping,
            Message::Pong,
            Message::ListMore { pages: self.rng.random() },
            Message::ListMore { pages: 0 },
            Message::Refused { refusal: Refusal::Busy, reason: Text::new("\u{1b}[2J no") },
            Message::Ack { through },
            Message::Resend { from: through },
            Message::ListEnd,
            Message::Live { through },
            Message::Resumed,
            Message::RestoreMore { request, through: self.rng.random() },
            Message::RestoreAnswer { request, answer: RestoreAnswer::Written(position) },
            hello(position.epoch, through),
        ];
        let message = messages.choose(self.rng).expect("there are some").clone();
        self.send(&message.into());
    }

    /// Somebody asks the station for a version while this master is the one to write it back.
    fn restore(&mut self) {
        let view = self.station.view();
        let Some((file, _)) = self.known.files.choose(self.rng).copied() else { return };
        let versions = view.versions(file).unwrap();
        let Some(state) = versions.choose(self.rng).cloned() else { return };
        drop(view);
        self.requests += 1;
        let request = RestoreRequest {
            request: RequestId([self.requests; 32]),
            path: SetPath::default(),
            version: state.version().unwrap_or(VersionId(state.position)),
            meta: state.meta.clone(),
            hash: keepshare_base::ContentHash([0; 32]),
            user: None,
            ground: None,
            act: Act::Write,
        };
        let id = request.request;
        self.station.ask_for(request, state);
        let through = [0, 1, 1 << 20, u64::MAX][self.rng.random_range(0..4)];
        self.send(&Message::RestoreMore { request: id, through }.into());
        self.station.settle();
        if self.rng.random() {
            let (position, _) = self.places();
            let answer = RestoreAnswer::Equal(position);
            self.send(&Message::RestoreAnswer { request: id, answer }.into());
        }
    }

    /// Very many questions, none of whose answers is read.
    fn pings(&mut self) {
        let ping = to_bytes(self.rng, &Message::Ping.into());
        self.station.receive(&ping.repeat(PINGS));
    }

    /// Much before the store has done anything of it.
    fn burst(&mut self) {
        let (next, _) = self.places();
        for ahead in 0..self.rng.random_range(5..20) {
            let position = Position { seq: Seq(next.seq.0.saturating_add(ahead)), ..next };
            let frame = if self.rng.random_bool(0.3) {
                let payload = vec![self.rng.random(); 100_000];
                let mut edit = Edit::default();
                let file = self
                    .known
                    .files
                    .choose(self.rng)
                    .map_or(keepshare_base::FileId::ROOT, |it| it.0);
                edit.whole(file, &super::honest::meta(keepshare_base::Kind::File), &payload, true);
                let FilledChange { change, payload } = edit.filled;
                let change = Change { stamp: stamp(self.rng), ..change };
                let (running, step) = (RunningHash::EMPTY, Step::Next);
                Frame { message: Message::Change { position, running, step, change }, payload }
            } else {
                self.change(position, RunningHash::EMPTY, Step::Next)
            };
            self.send(&frame);
        }
    }

    fn time_passes(&mut self) {
        let pauses = [1000, SECOND, 5 * SECOND, 11 * SECOND, 25 * SECOND, 86_400 * SECOND];
        let pause = *pauses.choose(self.rng).expect("there are some");
        self.station.pass(pause);
        if self.rng.random_bool(0.3) {
            self.station.set_full(false);
        }
    }

    fn crash(&mut self) {
        let crash = match self.rng.random_range(0..3) {
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            _ => Crash::Tear(self.rng.random()),
        };
        let index_lost = self.rng.random_bool(0.15);
        self.station.crash(crash, index_lost);
        self.keeper.check(&self.station.reader(), true);
    }

    fn noise(&mut self) {
        let bytes: Vec<u8> =
            (0..self.rng.random_range(1..200)).map(|_| self.rng.random()).collect();
        self.station.receive(&bytes);
    }
}

fn is_listed(frame: &Frame) -> bool {
    matches!(frame.message, Message::ListNames(_) | Message::ListFiles(_))
}
