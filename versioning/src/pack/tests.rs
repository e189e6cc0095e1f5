//! What packs promise under flipped bytes, crashes, a full disk and failing syncs.

use std::sync::Arc;

use keepshare_base::PART_BYTES;

use super::{
    frame::{Codec, PackHeader, push_frame},
    *,
};
use crate::disk::sim::{Crash, Dice, SimDisk};

const FILE: &str = "packs/0000000001";

fn writer(disk: &SimDisk) -> PackWriter {
    PackWriter::open(Arc::new(disk.clone()), 0).unwrap()
}

fn reader(disk: &SimDisk) -> PackReader {
    PackReader::new(Arc::new(disk.clone()))
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    std::iter::repeat_with(|| dice.roll().to_le_bytes()).flatten().take(len).collect()
}

/// A pack with every kind of frame: nothing, incompressible, compressed, of odd length, part of something longer.
fn small_pack() -> (SimDisk, Vec<(PackLoc, Vec<u8>)>) {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    let text = b"the quick brown fox ".repeat(20);
    let contents = [vec![], noise(1, 70), text, vec![0; 301], noise(2, 9)];
    let mut stored = contents.map(|raw| (writer.append(&raw).unwrap(), raw)).to_vec();
    let long = [noise(3, PART_BYTES), noise(4, 33)].concat();
    let last = long[PART_BYTES..].to_vec();
    let known = Hashed::of(&long).sum(PART_BYTES, last.len());
    assert!(known.is_some());
    stored.push((writer.append_summed(&last, known).unwrap(), last));
    writer.sync().unwrap();
    (disk, stored)
}

/// Packs of format 1 are read for ever.
#[test]
fn packs_of_format_1_are_read() {
    let (text, bytes) = (b"the quick brown fox ".repeat(20), noise(1, 70));
    let id = 0x0123_4567_89ab_cdef;
    // Format 1 differs by its number alone where nothing is part of anything.
    let mut pack = PackHeader { pack: 1, id }.to_bytes().to_vec();
    pack[8] = 1;
    pack[12..16].fill(0);
    let crc = crc32c::crc32c(&pack);
    pack[12..16].copy_from_slice(&crc.to_le_bytes());
    let zipped = zstd::bulk::compress(&text, 3).unwrap();
    let mut stored = vec![];
    for (codec, raw, kept) in [(Codec::Raw, &bytes, &bytes), (Codec::Zstd, &text, &zipped)] {
        let offset = pack.len() as u64;
        let header = push_frame(&mut pack, (id, offset), (codec, raw.len(), Sum::of(raw)), kept);
        let FrameHeader { stored: kept, raw: len, .. } = header;
        stored.push((
            PackLoc { pack: 1, offset, stored: kept, raw: len, check: header.check() },
            raw,
        ));
    }
    // What the compressor makes of the text may change; the rest is as it was written.
    let fixed = keepshare_base::ContentHash::of(&pack[..144]).to_string();
    assert_eq!(&fixed[..16], "7c8c975d1da8dda0", "not as it was written");
    let disk = SimDisk::new();
    let file = disk.open(FILE, true).unwrap();
    file.write_all_at(&pack, 0).unwrap();
    for (loc, raw) in stored {
        assert_eq!(&reader(&disk).read(loc).unwrap(), raw);
    }
}

/// What is shown from memory is what was written, whatever has become of it on the disk; a check sees the disk.
#[test]
fn what_was_written_last_is_shown_from_memory_and_read_from_the_disk() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    let reader = beside(reader(&disk), &writer);
    let contents: Vec<_> = (0..40).map(|i| noise(i, RAW_BYTES_MAX - 7)).collect();
    let text = b"the quick brown fox ".repeat(8000);
    let locs: Vec<_> = contents.iter().map(|raw| writer.append(raw).unwrap()).collect();
    let text_loc = writer.append(&text).unwrap();
    writer.sync().unwrap();
    let shown = |loc| {
        let mut shown = vec![];
        reader.look_fresh(loc, |seen| shown.extend_from_slice(seen)).map(|()| shown)
    };
    for (loc, raw) in locs.iter().zip(&contents) {
        assert!(shown(*loc).unwrap() == *raw);
    }
    for loc in [locs[0], locs[39]] {
        disk.flip(&name(loc.pack), loc.offset + 4000, 3);
        assert!(matches!(reader.read(loc), Err(PackError::Damaged { .. })));
    }
    assert!(shown(locs[39]).unwrap() == contents[39], "it was written a moment ago");
    assert!(matches!(shown(locs[0]), Err(PackError::Damaged { .. })), "it takes memory for ever");
    assert!(shown(text_loc).unwrap() == text);
    let wrong = PackLoc { check: locs[39].check ^ 1, ..locs[39] };
    assert!(shown(wrong).is_err(), "another content has this place");
    writer.forget_fresh();
    assert!(shown(locs[39]).is_err(), "its memory was not let go of");
}

#[test]
fn what_was_stored_comes_back_and_compressible_content_smaller() {
    let (disk, stored) = small_pack();
    let reader = reader(&disk);
    for (loc, raw) in &stored {
        assert_eq!(&reader.read(*loc).unwrap(), raw);
        assert_eq!(PackLoc::from_bytes(&loc.to_bytes()), Some(*loc));
    }
    assert_eq!((stored[1].0.stored, stored[2].0.raw), (70, 400));
    assert!(stored[2].0.stored < 100);
    let bytes: u64 = stored.iter().map(|(loc, _)| loc.frame_bytes()).sum();
    assert_eq!(reader.packs().unwrap(), [(1, 32 + bytes)], "every byte is accounted for");
}

/// Flips every bit of the frames, one at a time, and of the header.
#[test]
fn no_flipped_bit_is_ever_served() {
    let (disk, stored) = small_pack();
    for bit in 0..disk.content(FILE).len() as u64 * 8 {
        let hurt = disk.reopen(Crash::KeepAll);
        hurt.flip(FILE, bit / 8, (bit % 8) as u8);
        let reader = reader(&hurt);
        for (loc, raw) in &stored {
            let mine = loc.offset..loc.offset + loc.frame_bytes();
            let touched = mine.contains(&(bit / 8)) || bit / 8 < 32;
            match reader.read(*loc) {
                Ok(content) => assert!(!touched && content == *raw, "bit {bit} was served"),
                Err(PackError::Damaged { pack: 1, .. }) => assert!(touched, "bit {bit}"),
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
    }
}

/// Rows and packs can come from different moments, after a restore from a backup for example.
#[test]
fn a_location_of_something_else_is_damage() {
    let (disk, stored) = small_pack();
    let (other, _) = small_pack();
    let (loc, _) = stored[1];
    let wrong = [
        PackLoc { pack: 2, ..loc },
        PackLoc { offset: loc.offset + 8, ..loc },
        PackLoc { offset: u64::MAX, ..loc },
        PackLoc { stored: loc.stored - 1, ..loc },
        PackLoc { raw: loc.raw + 1, ..loc },
        PackLoc { stored: u32::MAX, raw: u32::MAX, ..loc },
        PackLoc { check: loc.check ^ 1, ..loc },
    ];
    for loc in wrong {
        let read = reader(&disk).read(loc);
        assert!(matches!(read, Err(PackError::Damaged { .. })), "{loc:?}: {read:?}");
    }
    let frame = &disk.content(FILE)[usize::try_from(loc.offset).unwrap()..][..112];
    other.patch(FILE, loc.offset, frame);
    assert!(reader(&other).read(loc).is_err(), "a frame of another pack was served");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, stored) = small_pack();
    let mut header = disk.content(FILE)[..32].to_vec();
    header[8] = 3;
    header[12..16].fill(0);
    let crc = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.patch(FILE, 0, &header);
    let error = reader(&disk).read(stored[0].0).unwrap_err();
    assert!(matches!(error, PackError::NewerFormat { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn packs_roll_at_their_limit_and_stay_readable() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk);
    let pieces: Vec<_> = (0..70).map(|i| noise(i, RAW_BYTES_MAX - 7)).collect();
    let locs: Vec<_> = pieces.iter().map(|raw| writer.append(raw).unwrap()).collect();
    assert_eq!(writer.current(), 2);
    // The first was synced when it was sealed; the second has to be.
    writer.sync().unwrap();
    let disk = disk.reopen(Crash::LoseAll);
    let reader = reader(&disk);
    assert!(locs.iter().zip(&pieces).all(|(loc, raw)| reader.read(*loc).unwrap() == *raw));
    let packs = reader.packs().unwrap();
    assert!(packs.len() == 2 && packs.iter().all(|(_, len)| *len <= PACK_BYTES_MAX), "{packs:?}");
    assert!(matches!(
        PackWriter::open(Arc::new(disk), 0).unwrap().append(&vec![0; RAW_BYTES_MAX + 1]),
        Err(PackError::TooLong(_))
    ));
}

/// A number given twice could make an old row read new content.
#[test]
fn numbers_are_never_given_again() {
    let (disk, stored) = small_pack();
    reader(&disk).remove(1).unwrap();
    assert!(reader(&disk).read(stored[0].0).is_err());
    let mut writer = PackWriter::open(Arc::new(disk.clone()), 41).unwrap();
    assert_eq!(writer.append(b"x").unwrap().pack, 42);
    writer.sync().unwrap();
    assert_eq!(PackWriter::open(Arc::new(disk), 0).unwrap().append(b"x").unwrap().pack, 43);
}

/// Content is synced before the row that names it; this is the half of it that packs answer for.
#[test]
fn what_was_synced_survives_a_crash_anywhere() {
    let run = |disk: &SimDisk, synced: &mut Vec<(PackLoc, Vec<u8>)>| -> Result<(), PackError> {
        let mut writer = PackWriter::open(Arc::new(disk.clone()), 0)?;
        for i in 0..8 {
            let group: Vec<_> = (0..3).map(|j| noise(i * 10 + j, 1200)).collect();
            let group = group.into_iter().map(|raw| Ok((writer.append(&raw)?, raw)));
            let group: Vec<_> = group.collect::<Result<_, PackError>>()?;
            writer.sync()?;
            synced.extend(group);
        }
        Ok(())
    };
    let whole = SimDisk::new();
    run(&whole, &mut vec![]).unwrap();
    for n in 1..=whole.writes() + whole.syncs() {
        for kind in 0..8 {
            let disk = SimDisk::new();
            match n.checked_sub(whole.writes()) {
                None | Some(0) => disk.crash_at_write(n),
                Some(sync) => disk.crash_at(sync),
            }
            let mut synced = vec![];
            run(&disk, &mut synced).unwrap_err();
            let crash = if kind == 0 { Crash::LoseAll } else { Crash::Tear(n * 8 + kind) };
            let disk = disk.reopen(crash);
            let mut more = vec![];
            run(&disk, &mut more).unwrap();
            let reader = reader(&disk.reopen(Crash::LoseAll));
            for (loc, raw) in synced.iter().chain(&more) {
                assert!(reader.read(*loc).unwrap() == *raw, "crash {n}, kind {kind}: {loc:?}");
            }
        }
    }
}

/// Space comes back when something is removed; until then nothing is lost and nothing grows.
#[test]
fn a_full_disk_keeps_the_buffer_for_another_try() {
    let (disk, _) = small_pack();
    let mut writer = writer(&disk);
    let first = writer.append(&noise(7, 3000)).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    assert!(matches!(writer.sync(), Err(PackError::Full(_))));
    let refused = (0..10_000).find_map(|i| writer.append(&noise(i, 60_000)).err()).unwrap();
    assert!(matches!(refused, PackError::Full(_)), "{refused}");
    disk.set_capacity(None);
    let last = writer.append(b"goes on").unwrap();
    writer.sync().unwrap();
    let reader = reader(&disk.reopen(Crash::LoseAll));
    assert_eq!(reader.read(first).unwrap(), noise(7, 3000));
    assert_eq!(reader.read(last).unwrap(), b"goes on");
}

/// After a failed sync the pack looks whole and is not, so nothing may be added to it.
#[test]
fn a_failed_sync_poisons_and_the_pack_is_left_alone() {
    let disk = SimDisk::new();
    let mut broken = writer(&disk);
    broken.append(b"never acknowledged").unwrap();
    disk.fail_sync(1);
    assert!(matches!(broken.sync(), Err(PackError::Io(_))));
    assert!(matches!(broken.sync(), Err(PackError::Poisoned)));
    assert!(matches!(broken.append(b"x"), Err(PackError::Poisoned)));
    let mut next = writer(&disk);
    let loc = next.append(b"acknowledged").unwrap();
    next.sync().unwrap();
    assert_eq!(loc.pack, 2);
    assert_eq!(reader(&disk.reopen(Crash::LoseAll)).read(loc).unwrap(), b"acknowledged");
}
