//! Frames as bytes, and what can be done to them on the way.

use keepshare_base::{Epoch, FileId, Name, NameRow, Seq};
use keepshare_proto::{
    Frame, Message, Step,
    codec::{Clocks, encode, set_clocks},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::rows::stamp;

/// What stands for a name until it is put there: no other field of a frame has so many of it.
const MARK: u8 = 0xf7;

/// Returns a frame's bytes; of one that cannot be encoded, none.
pub(crate) fn to_bytes(rng: &mut StdRng, frame: &Frame) -> Vec<u8> {
    let Ok(mut bytes) = encode(&frame.message, &frame.payload) else { return Vec::new() };
    if rng.random_bool(0.3) {
        let some = |rng: &mut StdRng| rng.random_bool(0.7).then(|| stamp(rng));
        let clocks = Clocks { sent: some(rng), heard: some(rng) };
        let head = bytes.len() - frame.payload.len();
        set_clocks(&mut bytes[..head], clocks);
    }
    bytes
}

/// Returns a change's bytes with a name in it that is none.
pub(crate) fn with_hostile_name(rng: &mut StdRng, frame: &Frame, parent: FileId) -> Vec<u8> {
    let mut frame = frame.clone();
    let Message::Change { change, .. } = &mut frame.message else { return Vec::new() };
    let mark = [MARK; 9];
    let name = Name::new(&mark).expect("a name");
    change.names.push(NameRow { parent, name, target: None });
    let bytes = to_bytes(rng, &frame);
    let long = vec![b'x'; 256];
    let hostile: [&[u8]; 12] = [
        b"",
        b".",
        b"..",
        b"/",
        b"a/b",
        b"../../canary",
        b"a\0b",
        b"@versions",
        b"@VERSIONS",
        b"@GMT-2026.01.01-00.00.00",
        b"/etc/passwd",
        &long,
    ];
    let name = hostile.choose(rng).expect("there are some");
    let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) else {
        return bytes;
    };
    let mut length = Vec::new();
    let mut left = name.len();
    while left >= 0x80 {
        length.push((left % 0x80) as u8 | 0x80);
        left /= 0x80;
    }
    length.push(left as u8);
    let other = [&bytes[..at - 1], &length, name, &bytes[at + mark.len()..]].concat();
    relength(other, bytes.len())
}

/// Puts right what a frame's two lengths say after its header was made longer or shorter.
fn relength(mut frame: Vec<u8>, before: usize) -> Vec<u8> {
    let difference = frame.len() as i64 - before as i64;
    for place in [0, 4] {
        let mut length = [0; 4];
        length.copy_from_slice(&frame[place..place + 4]);
        let length = i64::from(u32::from_le_bytes(length)) + difference;
        frame[place..place + 4].copy_from_slice(&(length as u32).to_le_bytes());
    }
    frame
}

/// Damages a frame's bytes.
pub(crate) fn damage(rng: &mut StdRng, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    if bytes.len() < 12 {
        return bytes;
    }
    match rng.random_range(0..6) {
        0 => {
            for _ in 0..rng.random_range(1..4) {
                // What frames say is at their beginning.
                let near = if rng.random_bool(0.7) { bytes.len().min(120) } else { bytes.len() };
                let at = rng.random_range(8..near);
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        1 => bytes.truncate(rng.random_range(1..bytes.len())),
        2 => {
            let (at, before) = (rng.random_range(8..bytes.len()), bytes.len());
            bytes.insert(at, rng.random());
            bytes = relength(bytes, before);
        }
        3 => {
            let (at, before) = (rng.random_range(8..bytes.len()), bytes.len());
            bytes.remove(at);
            bytes = relength(bytes, before);
        }
        4 => {
            let (at, before) = (rng.random_range(8..bytes.len()), bytes.len());
            let from = rng.random_range(0..other.len().max(1)).min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
            bytes = relength(bytes, before);
        }
        _ => {
            let at = rng.random_range(0..8);
            bytes[at] = rng.random();
        }
    }
    bytes
}

/// Makes one thing of an honest message another.
pub(crate) fn twist(rng: &mut StdRng, frame: &mut Frame) {
    let nudge = |rng: &mut StdRng, number: u64| match rng.random_range(0..6) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => u64::MAX,
        3 => 1 << 62,
        4 => 0,
        _ => rng.random_range(0..100),
    };
    match &mut frame.message {
        Message::Hello(hello) => match rng.random_range(0..4) {
            0 => {
                let number = nudge(rng, hello.epoch.number());
                hello.epoch = Epoch::new(number).unwrap_or(Epoch::FIRST);
            }
            1 => hello.head = Seq(nudge(rng, hello.head.0)),
            2 => hello.origin.0 = rng.random_range(0..3),
            _ => hello.set = "others".parse().expect("a set name"),
        },
        Message::MirrorStart { at, stamp: when, .. } => match rng.random_range(0..4) {
            0 => at.seq = Seq(nudge(rng, at.seq.0)),
            1 => at.epoch = Epoch::new(nudge(rng, at.epoch.number())).unwrap_or(at.epoch),
            2 => at.running.0[0] ^= 1,
            _ => *when = stamp(rng),
        },
        Message::Change { position, running, step, change } => match rng.random_range(0..12) {
            0 => position.seq = Seq(nudge(rng, position.seq.0)),
            1 => running.0[3] ^= 8,
            2 => {
                let number = nudge(rng, 1);
                *step = match step {
                    Step::Next => Step::Part { number },
                    Step::Part { number: n } if rng.random() => Step::Last { number: *n },
                    Step::Part { .. } | Step::Last { .. } if rng.random() => Step::Next,
                    Step::Part { .. } | Step::Last { .. } => Step::Last { number },
                };
            }
            3 => change.made.clear(),
            4 => change.made.iter_mut().for_each(|(_, made)| {
                made.position.seq = Seq(nudge(rng, made.position.seq.0));
            }),
            5 => change.files.iter_mut().for_each(|row| row.cut = rng.random()),
            6 => change.files.iter_mut().for_each(|row| row.meta.size = nudge(rng, row.meta.size)),
            7 => change.names.iter_mut().for_each(|row| row.target = None),
            8 => {
                let rows = change.names.clone();
                for row in &mut change.names {
                    row.parent = rows.choose(rng).expect("itself").parent;
                }
            }
            9 => change.stamp = stamp(rng),
            10 => frame.payload.iter_mut().for_each(|byte| *byte ^= 0x55),
            _ => frame.payload.truncate(rng.random_range(0..=frame.payload.len())),
        },
        _ => {}
    }
}
