use keepshare_base::{
    Content, ContentHash, Epoch, Event, Extent, FileId, FileRow, FileTime, Kind, Meta, Name,
    NameRow, OriginId, Owner, Point, PointKind, PointRow, Position, PresentFile, RequestId,
    RestoreGround, RestoreOutcome, RestoreRow, RunningHash, Schedule, Seq, SetPath, Stamp,
    VersionId,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    Act, Elsewhere, FileLine, MirrorReason, NameLine, PAGE_LINES_MAX, Place, RestoreAnswer,
    RestoreRequest, SetSettings, StateDigest, Step, TEXT_BYTES_MAX, Text, Welcome,
};

fn epoch() -> impl Strategy<Value = Epoch> {
    (1..=u64::MAX).prop_map(|n| Epoch::new(n).unwrap())
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u32>(), epoch(), any::<u64>()).prop_map(|(origin, epoch, seq)| Position {
        origin: OriginId(origin),
        epoch,
        seq: Seq(seq),
    })
}

fn place() -> impl Strategy<Value = Place> {
    (epoch(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(epoch, seq, running)| Place {
        epoch,
        seq: Seq(seq),
        running: RunningHash(running),
    })
}

fn file_id() -> impl Strategy<Value = FileId> {
    (any::<u32>(), epoch(), any::<u64>()).prop_map(|(origin, epoch, counter)| FileId {
        origin: OriginId(origin),
        epoch,
        counter,
    })
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..=255).prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn kind() -> impl Strategy<Value = Kind> {
    select(vec![
        Kind::File,
        Kind::Dir,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Socket,
        Kind::BlockDevice,
        Kind::CharDevice,
    ])
}

fn text() -> impl Strategy<Value = Text> {
    ".{0,80}".prop_map(|text| Text::new(&text))
}

fn meta() -> impl Strategy<Value = Meta> {
    let owner = || (any::<u32>(), ".{0,9}").prop_map(|(id, name)| Owner { id, name });
    let bytes = || vec(any::<u8>(), 0..40);
    let numbers = (kind(), any::<u64>(), any::<u32>(), any::<i64>(), any::<u32>(), any::<u64>());
    (numbers, owner(), owner(), bytes(), vec((bytes(), bytes()), 0..4)).prop_map(
        |((kind, size, mode, secs, nanos, rdev), owner, group, symlink, xattrs)| Meta {
            kind,
            size,
            mode,
            owner,
            group,
            mtime: FileTime { secs, nanos },
            symlink,
            rdev,
            xattrs,
        },
    )
}

fn content() -> impl Strategy<Value = Content> {
    let extent = (any::<u64>(), any::<u64>(), any::<bool>())
        .prop_map(|(offset, len, zero)| Extent { offset, len, zero });
    let extents =
        (any::<bool>(), vec(extent, 0..5), any::<[u8; 32]>()).prop_map(|(fresh, extents, hash)| {
            Content::Extents { fresh, extents, hash: ContentHash(hash) }
        });
    prop_oneof![Just(Content::Same), extents]
}

fn file_row() -> impl Strategy<Value = FileRow> {
    let events =
        vec![Event::Created, Event::Saved, Event::Attributes, Event::Restored, Event::Mirrored];
    let hash = option::of(any::<[u8; 32]>().prop_map(ContentHash));
    (file_id(), select(events), meta(), content(), hash, any::<bool>(), any::<bool>()).prop_map(
        |(file, event, meta, content, hash, cut, fuzzy)| FileRow {
            file,
            event,
            meta,
            content,
            hash,
            cut,
            fuzzy,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let name_row = (file_id(), name(), option::of((file_id(), kind())))
        .prop_map(|(parent, name, target)| NameRow { parent, name, target });
    let made = (".{0,9}", select(vec![PointKind::App, PointKind::Crash]), option::of(any::<u64>()))
        .prop_map(|(name, kind, lasts_micros)| PointRow::Made {
            point: Point { name, kind },
            lasts_micros,
        });
    let held = (position(), option::of(any::<u64>()))
        .prop_map(|(point, lasts_micros)| PointRow::Held { point, lasts_micros });
    let point = prop_oneof![
        made,
        held,
        position().prop_map(|point| PointRow::Released { point }),
        position().prop_map(|point| PointRow::Removed { point }),
        (".{0,9}", any::<u64>(), any::<u32>()).prop_map(|(name, every_micros, keep)| {
            let point = Point { name, kind: PointKind::Crash };
            PointRow::Scheduled { point, schedule: Schedule { every_micros, keep } }
        }),
        any::<u64>().prop_map(|every_micros| PointRow::Unscheduled { every_micros }),
    ];
    let outcomes = vec![RestoreOutcome::Written, RestoreOutcome::Equal];
    let restore = (any::<[u8; 32]>(), position(), select(outcomes)).prop_map(
        |(request, version, outcome)| RestoreRow {
            request: RequestId(request),
            version: VersionId(version),
            outcome,
        },
    );
    let lists = (vec(name_row, 0..4), vec(file_row(), 0..3), vec(file_id(), 0..3));
    (any::<i64>(), option::of(".{0,9}"), lists, option::of(point), option::of(restore)).prop_map(
        |(stamp, user, (names, files, cuts), point, restore)| Change {
            stamp: Stamp(stamp),
            user,
            names,
            files,
            cuts,
            point,
            restore,
            made: Vec::new(),
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![control(), about_mirrors(), about_restores(), changes()]
}

fn control() -> impl Strategy<Value = Frame> {
    let hello = ("[a-z0-9][a-z0-9_-]{0,63}", any::<u32>(), epoch(), any::<u64>()).prop_map(
        |(set, origin, epoch, head)| {
            Message::Hello(Hello {
                set: set.parse().unwrap(),
                origin: OriginId(origin),
                epoch,
                head: Seq(head),
                settings: SetSettings::default(),
            })
        },
    );
    let refusals = vec![Refusal::Protocol, Refusal::Unknown, Refusal::Epoch, Refusal::Busy];
    let refused = (select(refusals), text())
        .prop_map(|(refusal, reason)| Message::Refused { refusal, reason });
    let welcome =
        (option::of(place()), epoch(), any::<bool>()).prop_map(|(place, fence, mirroring)| {
            Message::Welcome(Welcome { place, fence, mirroring })
        });
    let seqs = any::<u64>().prop_flat_map(|n| {
        select(vec![
            Message::Ping,
            Message::Pong,
            Message::Resumed,
            Message::Ack { through: Seq(n) },
            Message::PartAck { parts: n },
            Message::Resend { from: Seq(n) },
            Message::Live { through: Seq(n) },
        ])
    });
    let waiting = text().prop_map(|reason| Message::Waiting { reason });
    prop_oneof![hello, refused, welcome, seqs, waiting].prop_map(Frame::from)
}

fn about_mirrors() -> impl Strategy<Value = Frame> {
    let reasons = vec![MirrorReason::Empty, MirrorReason::Dropped, MirrorReason::Asked];
    let start = (place(), any::<i64>(), select(reasons))
        .prop_map(|(at, stamp, reason)| Message::MirrorStart { at, stamp: Stamp(stamp), reason });
    let more = any::<u32>().prop_map(|pages| Message::ListMore { pages });
    let name_line = (file_id(), name(), file_id(), kind())
        .prop_map(|(parent, name, file, kind)| NameLine { parent, name, file, kind });
    let version = option::of((epoch(), any::<u64>().prop_map(Seq)));
    let file_line = (file_id(), any::<[u8; 16]>(), version).prop_map(|(file, digest, version)| {
        FileLine { file, digest: StateDigest(digest), version }
    });
    let names = vec(name_line, 0..20).prop_map(Message::ListNames);
    let files = vec(file_line, 0..20).prop_map(Message::ListFiles);
    prop_oneof![start, more, names, files, Just(Message::ListEnd)].prop_map(Frame::from)
}

fn ground() -> impl Strategy<Value = RestoreGround> {
    let present = (file_id(), any::<(u32, u32, u32)>())
        .prop_map(|(file, (mode, uid, gid))| PresentFile { file, mode, uid, gid });
    let still = option::of((any::<u64>(), any::<i64>(), 0..1_000_000_000_u32))
        .prop_map(|still| still.map(|(size, secs, nanos)| (size, FileTime { secs, nanos })));
    (file_id(), option::of(present), still).prop_map(|(folder, present, still)| RestoreGround {
        folder,
        present,
        still,
    })
}

fn elsewhere() -> impl Strategy<Value = Elsewhere> {
    (vec(name(), 0..6).prop_map(SetPath::from), ground())
        .prop_map(|(path, ground)| Elsewhere { path, ground })
}

fn about_restores() -> impl Strategy<Value = Frame> {
    let id = || any::<[u8; 32]>().prop_map(RequestId);
    let path = vec(name(), 0..6).prop_map(SetPath::from);
    let hash = any::<[u8; 32]>().prop_map(ContentHash);
    let act = prop_oneof![
        select(vec![Act::Write, Act::Make, Act::SetAttributes, Act::Remove]),
        elsewhere().prop_map(Act::Move),
        elsewhere().prop_map(Act::Link),
        (text(), any::<u64>()).prop_map(|(name, lasts_micros)| Act::Point { name, lasts_micros }),
    ];
    let asked =
        (id(), path, position(), meta(), hash, option::of(text()), option::of(ground()), act);
    let request = asked.prop_map(|(request, path, version, meta, hash, user, ground, act)| {
        let version = VersionId(version);
        let request = RestoreRequest { request, path, version, meta, hash, user, ground, act };
        Message::RestoreRequest(request)
    });
    let answer = prop_oneof![
        position().prop_map(RestoreAnswer::Written),
        position().prop_map(RestoreAnswer::Equal),
        position().prop_map(RestoreAnswer::StillOpen),
        text().prop_map(RestoreAnswer::Failed),
        text().prop_map(RestoreAnswer::NotNow),
    ];
    let answer =
        (id(), answer).prop_map(|(request, answer)| Message::RestoreAnswer { request, answer });
    let more = (id(), any::<u64>())
        .prop_map(|(request, through)| Message::RestoreMore { request, through });
    let data =
        (id(), any::<u64>(), vec(any::<u8>(), 0..300)).prop_map(|(request, offset, payload)| {
            Frame { message: Message::RestoreData { request, offset }, payload }
        });
    prop_oneof![prop_oneof![request, answer, more].prop_map(Frame::from), data]
}

fn changes() -> impl Strategy<Value = Frame> {
    let step = any::<u64>().prop_flat_map(|number| {
        select(vec![Step::Next, Step::Part { number }, Step::Last { number }])
    });
    (position(), any::<[u8; 32]>(), step, change(), vec(any::<u8>(), 0..300)).prop_map(
        |(position, running, step, change, payload)| {
            let running = RunningHash(running);
            Frame { message: Message::Change { position, running, step, change }, payload }
        },
    )
}

fn encoded(frame: &Frame) -> Vec<u8> {
    encode(&frame.message, &frame.payload).unwrap()
}

/// Feeds a stream in pieces of `step` bytes and returns the frames, or the first error.
fn decoded(stream: &[u8], step: usize) -> Result<Vec<Frame>, DecodeError> {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    for piece in stream.chunks(step) {
        decoder.feed(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn raw(frame: u32, header: u32, rest: &[u8]) -> Vec<u8> {
    [&frame.to_le_bytes(), &header.to_le_bytes(), rest].concat()
}

fn framed(header: &[u8]) -> Vec<u8> {
    let len = u32::try_from(header.len()).unwrap();
    raw(len, len, header)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_sent_is_what_arrives(frames in vec(frame(), 1..4), step in 1_usize..2000) {
        let stream: Vec<u8> = frames.iter().flat_map(encoded).collect();
        prop_assert_eq!(decoded(&stream, step).unwrap(), frames);
    }

    /// A flipped byte gives another message or an error, never a panic, and never one that does not encode.
    #[test]
    fn a_flipped_byte_harms_nobody(frame in frame(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = encoded(&frame);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        for frame in decoded(&bytes, 4096).unwrap_or_default() {
            prop_assert!(encode(&frame.message, &frame.payload).is_ok());
        }
    }

    #[test]
    fn a_stream_that_ends_early_gives_no_frame(frame in frame(), keep in any::<prop::sample::Index>()) {
        let bytes = encoded(&frame);
        let keep = keep.index(bytes.len());
        prop_assert_eq!(decoded(&bytes[..keep], 4096), Ok(vec![]));
    }

    #[test]
    fn a_header_cut_short_or_followed_by_more_is_an_error(frame in frame(), more in 1_usize..9) {
        let bytes = encoded(&frame);
        let header_len = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        let header = &bytes[8..8 + usize::try_from(header_len).unwrap()];
        let longer = [header, &vec![0; more]].concat();
        prop_assert_eq!(decoded(&framed(&longer), 4096), Err(DecodeError::Trailing(more)));
        for keep in 1..header.len() {
            prop_assert!(decoded(&framed(&header[..keep]), 4096).is_err());
        }
    }

    #[test]
    fn noise_is_refused(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = decoded(&bytes, 100);
        let _ = decoded(&framed(&bytes), 100);
    }

    #[test]
    fn the_length_of_rows_is_what_they_take(change in change()) {
        prop_assert_eq!(change_len(&change), postcard::to_stdvec(&change).unwrap().len());
    }
}

/// Whoever announces gigabytes gets an error for eight bytes, and no memory.
#[test]
fn announced_lengths_are_never_set_aside() {
    let lengths = [0, 1, 1 << 20, (1 << 20) + 1, 1 << 31, u32::MAX];
    let headers = [0, 1, 384 << 10, (384 << 10) + 1, u32::MAX];
    for (frame, header) in lengths.iter().flat_map(|f| headers.iter().map(move |h| (*f, *h))) {
        let mut decoder = Decoder::new();
        decoder.feed(&raw(frame, header, &[]));
        let fits = (1..=384 << 10).contains(&header) && (header..=1 << 20).contains(&frame);
        let wrong = Err(DecodeError::Lengths { frame, header });
        assert_eq!(decoder.next_frame(), if fits { Ok(None) } else { wrong });
        assert!(decoder.bytes.capacity() < 100, "{} bytes set aside", decoder.bytes.capacity());
    }
}

/// Inside a header too: a list of 2^32 - 1 entries of which none is there.
#[test]
fn announced_counts_inside_a_header_end_with_the_header() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for tag in [8, 9] {
        let header = [&[tag], &huge[..]].concat();
        assert!(matches!(decoded(&framed(&header), 100), Err(DecodeError::Header(_))));
    }
    let name_of_huge_length = [&[8, 1, 0, 1, 0], &huge[..]].concat();
    assert!(matches!(decoded(&framed(&name_of_huge_length), 100), Err(DecodeError::Header(_))));
    let reason_of_huge_length = [&[1, 0], &huge[..]].concat();
    assert!(matches!(decoded(&framed(&reason_of_huge_length), 100), Err(DecodeError::Header(_))));
}

/// A decoder fed without end holds one frame and the last read, not the stream.
#[test]
fn a_decoder_forgets_what_it_gave() {
    let message = Message::RestoreData { request: RequestId([7; 32]), offset: 0 };
    let bytes = encode(&message, &vec![1; 100_000]).unwrap();
    let (mut decoder, mut frames) = (Decoder::new(), 0);
    for piece in bytes.repeat(50).chunks(65_536) {
        decoder.feed(piece);
        while decoder.next_frame().unwrap().is_some() {
            frames += 1;
        }
    }
    assert_eq!(frames, 50);
    assert!(decoder.bytes.capacity() < 512 * 1024, "{}", decoder.bytes.capacity());
}

/// The day version 2 exists, a station of version 1 must say so rather than "bad bytes".
#[test]
fn another_version_is_refused_by_name() {
    let header = [&HELLO_MAGIC[..], &[6, 0], b"whatever comes then"].concat();
    let error = decoded(&framed(&header), 100).unwrap_err();
    assert_eq!(error, DecodeError::Protocol { got: 6 });
    assert_eq!(
        error.to_string(),
        "the peer speaks version 6 of the protocol, we speak version 5: update the older one"
    );
    let no_magic = decoded(&framed(&[0, b'H', b'T', b'T', b'P', 1, 0]), 100);
    assert!(matches!(no_magic, Err(DecodeError::Header(_))));
}

/// Later versions rely on these bytes.
#[test]
fn the_first_frame_and_the_refusal_keep_their_form() {
    let hello = Message::Hello(Hello {
        set: "projects".parse().unwrap(),
        origin: OriginId(1),
        epoch: Epoch::FIRST,
        head: Seq(300),
        settings: SetSettings::default(),
    });
    let mut want = vec![37, 0, 0, 0, 37, 0, 0, 0, 0];
    want.extend(b"KSHR\x05\x00\x08projects\x01\x01\xac\x02\x00");
    want.extend([0; CLOCKS_BYTES]);
    assert_eq!(encode(&hello, &[]).unwrap(), want);
    let refused = Message::Refused { refusal: Refusal::Protocol, reason: Text::new("no") };
    assert_eq!(encode(&refused, &[]).unwrap(), b"\x05\0\0\0\x05\0\0\0\x01\x00\x02no");
}

/// Clocks are written when a frame leaves, not when it is queued; a refusal keeps its form.
#[test]
fn a_frame_carries_the_clocks_of_its_leaving() {
    let clocks = Clocks { sent: Some(Stamp(-5)), heard: Some(Stamp(1_763_600_000_000_000)) };
    for (message, told) in [
        (Message::Ping, clocks),
        (Message::Ack { through: Seq(300) }, clocks),
        (Message::Refused { refusal: Refusal::Busy, reason: Text::new("x") }, Clocks::default()),
    ] {
        let mut head = encode_head(&message, 0).unwrap();
        set_clocks(&mut head, clocks);
        let (frame, got) = decode_told(&head[LENGTHS_BYTES..], head.len() - LENGTHS_BYTES).unwrap();
        assert_eq!((frame.message, got), (message, told));
    }
    set_clocks(&mut [], clocks);
}

/// The tags of `docs/formats/wire.md`.
#[test]
fn tags_are_those_of_the_document() {
    let tags = [
        (Message::Ping, 2),
        (Message::ListMore { pages: 1 }, 7),
        (Message::ListEnd, 10),
        (Message::Ack { through: Seq(1) }, 11),
        (Message::Resumed, 15),
        (Message::RestoreMore { request: RequestId([0; 32]), through: 0 }, 18),
        (Message::Live { through: Seq(1) }, 20),
    ];
    for (message, tag) in tags {
        assert_eq!(encode(&message, &[]).unwrap()[8], tag, "{message:?}");
    }
}

#[test]
fn content_goes_only_with_what_has_content() {
    assert_eq!(encode(&Message::Ping, b"x"), Err(EncodeError::Payload(1)));
    let ping = [&[2][..], &[0; CLOCKS_BYTES], b"x"].concat();
    assert_eq!(decoded(&raw(18, 17, &ping), 100), Err(DecodeError::Payload(1)));
    let data = Message::RestoreData { request: RequestId([0; 32]), offset: 0 };
    let limit = usize::try_from(PAYLOAD_BYTES_MAX).unwrap();
    assert!(encode(&data, &vec![0; limit]).is_ok());
    assert_eq!(encode(&data, &vec![0; limit + 1]), Err(EncodeError::Payload(limit + 1)));
}

/// The longest page and the largest change must fit, or a mirror would end in an error nobody can mend.
#[test]
fn the_longest_page_fits_into_a_header() {
    let id = FileId {
        origin: OriginId(u32::MAX),
        epoch: Epoch::new(u64::MAX).unwrap(),
        counter: u64::MAX,
    };
    let name = Name::new(&[b'x'; 255]).unwrap();
    let line = NameLine { parent: id, name, file: id, kind: Kind::CharDevice };
    let page = Message::ListNames(vec![line; PAGE_LINES_MAX]);
    assert!(encode(&page, &[]).is_ok());
    let user = Some("x".repeat(CHANGE_BYTES_MAX - change_len(&Change::default()) - 4));
    let change = Change { user, ..Change::default() };
    assert!(change_len(&change) >= CHANGE_BYTES_MAX - 2);
    let position = Position { origin: id.origin, epoch: id.epoch, seq: Seq(u64::MAX) };
    let (running, step) = (RunningHash([9; 32]), Step::Last { number: u64::MAX });
    let message = Message::Change { position, running, step, change };
    let limit = usize::try_from(PAYLOAD_BYTES_MAX).unwrap();
    let bytes = encode(&message, &vec![0; limit]).unwrap();
    assert!(decoded(&bytes, 65_536).is_ok());
    let message = Message::Waiting { reason: Text::new(&"x".repeat(4096)) };
    assert!(encode(&message, &[]).unwrap().len() < TEXT_BYTES_MAX + 32);
}
