//! Frames of a link between two stations.

use keepshare_base::{
    Change, Content, ContentHash, Epoch, Event, FileId, FileRow, FileTime, Kind, Meta, Name,
    NameRow, OriginId, Owner, Point, PointKind, PointRow, Position, RequestId, RunningHash, Seq,
    SetPath, Stamp, VersionId,
};
use keepshare_proto::{
    Act, FileLine, Frame, Hello, Message, MirrorReason, NameLine, Place, Refusal, RestoreAnswer,
    RestoreRequest, SetSettings, StateDigest, Step, Text, Welcome,
    codec::{Decoder, EncodeError, encode},
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "frames",
    run,
    examples,
    words: &[&[0x80, 0x80, 0x80, 0x80, 1], &[0xff, 0xff, 0xff, 0xff, 0x0f], b"..", b"/", &[0; 8]],
    cost: 2,
};

/// Reads a stream of frames, at once and in two pieces.
fn run(bytes: &[u8]) -> bool {
    let (frames, error) = frames(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(self::frames(&[first, second]), (frames.clone(), error.clone()), "in two pieces");
    for frame in &frames {
        match encode(&frame.message, &frame.payload) {
            Ok(again) => assert_eq!(self::frames(&[&again[..]]), (vec![frame.clone()], None)),
            // Texts are made printable, which makes them longer.
            Err(EncodeError::Header(_)) => {}
            Err(error) => panic!("{frame:?} was read and is not written: {error}"),
        }
    }
    if let Some(answer) = error {
        encode(&answer, &[]).expect("a refusal can always be sent");
    }
    !frames.is_empty()
}

/// Returns all frames, and what the peer is answered where something else comes.
fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<Message>) {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.answer())),
            }
        }
    }
    (frames, None)
}

/// One frame of every kind.
fn examples() -> Vec<(String, Vec<u8>)> {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(7) };
    let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 9 };
    let place = Place { epoch: Epoch::FIRST, seq: Seq(7), running: RunningHash([1; 32]) };
    let (text, request) = (Text::new("because of this"), RequestId([2; 32]));
    let name = Name::new(b"report.docx").expect("a name");
    let path = SetPath::parse(b"sales/report.docx").expect("a path");
    let hello = Hello {
        set: "projects".parse().expect("a name"),
        origin: OriginId(1),
        epoch: Epoch::FIRST,
        head: Seq(7),
        settings: SetSettings::default(),
    };
    let version = Some((Epoch::FIRST, Seq(5)));
    let digest = StateDigest::of(&meta(), None);
    let restore = RestoreRequest {
        request,
        path,
        version: VersionId(position),
        meta: meta(),
        hash: ContentHash::of(b"bytes"),
        user: Some(Text::new("anna")),
        ground: None,
        act: Act::Write,
    };
    let running = RunningHash([1; 32]);
    let change = |step| Message::Change { position, running, step, change: change(file) };
    let stamp = Stamp(1_763_649_127_000_001);
    let messages = [
        ("hello", Message::Hello(hello)),
        ("refused", Message::Refused { refusal: Refusal::Order, reason: text.clone() }),
        ("ping", Message::Ping),
        ("pong", Message::Pong),
        (
            "welcome",
            Message::Welcome(Welcome { place: Some(place), fence: Epoch::FIRST, mirroring: true }),
        ),
        ("change", change(Step::Next)),
        ("part", change(Step::Part { number: 1 })),
        ("last", change(Step::Last { number: 2 })),
        ("mirror", Message::MirrorStart { at: place, stamp, reason: MirrorReason::Differs }),
        ("more", Message::ListMore { pages: 8 }),
        (
            "names",
            Message::ListNames(vec![NameLine {
                parent: FileId::ROOT,
                name,
                file,
                kind: Kind::File,
            }]),
        ),
        ("files", Message::ListFiles(vec![FileLine { file, digest, version }])),
        ("end", Message::ListEnd),
        ("ack", Message::Ack { through: Seq(1 << 40) }),
        ("part-ack", Message::PartAck { parts: 3 }),
        ("resend", Message::Resend { from: Seq(4) }),
        ("waiting", Message::Waiting { reason: text.clone() }),
        ("resumed", Message::Resumed),
        ("restore", Message::RestoreRequest(restore)),
        ("data", Message::RestoreData { request, offset: 5 }),
        ("wanted", Message::RestoreMore { request, through: 9 }),
        ("written", Message::RestoreAnswer { request, answer: RestoreAnswer::Written(position) }),
        ("failed", Message::RestoreAnswer { request, answer: RestoreAnswer::Failed(text.clone()) }),
        ("not-now", Message::RestoreAnswer { request, answer: RestoreAnswer::NotNow(text) }),
        ("live", Message::Live { through: Seq(6) }),
    ];
    let written = messages.into_iter().map(|(name, message)| {
        let with_content = matches!(message, Message::Change { .. } | Message::RestoreData { .. });
        let payload: &[u8] = if with_content { b"bytes" } else { b"" };
        (name.to_owned(), encode(&message, payload).expect("an example fits"))
    });
    let written: Vec<_> = written.collect();
    let stream = written.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    written.into_iter().chain([("stream".to_owned(), stream)]).collect()
}

fn meta() -> Meta {
    Meta {
        kind: Kind::File,
        size: 5,
        mode: 0o640,
        owner: Owner { id: 1000, name: "anna".into() },
        group: Owner::default(),
        mtime: FileTime { secs: -1, nanos: 5 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
    }
}

fn change(file: FileId) -> Change {
    let name = Name::new(b"report.docx").expect("a name");
    let row = FileRow {
        file,
        event: Event::Saved,
        meta: meta(),
        content: Content::whole(b"bytes"),
        hash: None,
        cut: true,
        fuzzy: false,
    };
    Change {
        stamp: Stamp(1_763_649_127_000_001),
        user: Some("anna".into()),
        names: vec![NameRow { parent: FileId::ROOT, name, target: Some((file, Kind::File)) }],
        files: vec![row],
        cuts: vec![file],
        point: Some(PointRow::Made {
            point: Point { name: "release-7".into(), kind: PointKind::App },
            lasts_micros: Some(7),
        }),
        ..Change::default()
    }
}
