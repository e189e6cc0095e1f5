//! Which files processes have open or mapped for writing, as `/proc` shows it.
//!
//! An ordinary user sees the own processes only. A loop device is the kernel's: it is listed in `/sys`.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// The most files of one search.
const FOUND_MAX: usize = 10_000;

/// Returns the inode numbers of the files of a device that are open or mapped for writing.
pub(crate) fn writers(device: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || *own == *name {
            continue;
        }
        opened(&process.path(), device, &mut found);
        mapped(&process.path(), device, &mut found);
        if found.len() >= FOUND_MAX {
            break;
        }
    }
    looped(Path::new("/sys/block"), device, &mut found);
    found.sort_unstable();
    found.dedup();
    found.truncate(FOUND_MAX);
    found
}

/// Adds the files that a process has open for writing: the link of a descriptor has the rights of the descriptor.
fn opened(process: &Path, device: u64, found: &mut Vec<u64>) {
    for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let writes = descriptor.metadata().is_ok_and(|link| link.mode() & 0o200 != 0);
        if !writes {
            continue;
        }
        if let Ok(file) = fs::metadata(descriptor.path())
            && file.is_file()
            && file.dev() == device
        {
            found.push(file.ino());
        }
    }
}

/// Adds the files that a process has mapped so that what it stores goes to the file.
fn mapped(process: &Path, device: u64, found: &mut Vec<u64>) {
    let Ok(maps) = fs::File::open(process.join("maps")) else { return };
    let lines = BufReader::new(maps).lines().map_while(Result::ok);
    found.extend(
        lines.filter_map(|line| shared(&line)).filter(|(on, _)| *on == device).map(|f| f.1),
    );
}

/// Adds the files that loop devices among these block devices stand on.
fn looped(blocks: &Path, device: u64, found: &mut Vec<u64>) {
    for block in fs::read_dir(blocks).into_iter().flatten().flatten() {
        let Ok(file) = fs::read_to_string(block.path().join("loop/backing_file")) else { continue };
        if let Ok(file) = fs::metadata(file.trim_end())
            && file.dev() == device
        {
            found.push(file.ino());
        }
    }
}

/// Reads device and inode number of a shared, writable map: `7f00-7f01 rw-s 00000000 08:01 42 /path`.
fn shared(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let rights = fields.next()?.as_bytes();
    if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b's') {
        return None;
    }
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let number = |digits| u32::from_str_radix(digits, 16).ok();
    let device = rustix::fs::makedev(number(major)?, number(minor)?);
    Some((device, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_writable_maps_are_told() {
        let device = rustix::fs::makedev(8, 0x11);
        for (line, meant) in [
            ("7f00-7f01 rw-s 00000000 08:11 42   /srv/a b", Some((device, 42))),
            ("7f00-7f01 rw-p 00000000 08:11 42   /srv/a", None),
            ("7f00-7f01 r--s 00000000 08:11 42   /srv/a", None),
            ("7f00-7f01 rw-s", None),
            ("", None),
        ] {
            assert_eq!(shared(line), meant, "{line}");
        }
    }

    /// What is written to a disk in a file, as of a virtual machine, is written by the kernel: no process has that file open.
    #[test]
    fn the_file_of_a_loop_device_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk image");
        let file = fs::File::create(&image).unwrap().metadata().unwrap();
        let blocks = dir.path().join("block");
        fs::create_dir_all(blocks.join("loop0/loop")).unwrap();
        fs::create_dir_all(blocks.join("loop1/loop")).unwrap();
        fs::create_dir(blocks.join("sda")).unwrap();
        let backing = format!("{}\n", image.display());
        fs::write(blocks.join("loop0/loop/backing_file"), &backing).unwrap();
        fs::write(blocks.join("loop1/loop/backing_file"), "/not/there\n").unwrap();
        let found = |device| {
            let mut found = Vec::new();
            looped(&blocks, device, &mut found);
            found
        };
        assert_eq!(found(file.dev()), [file.ino()]);
        assert_eq!(found(file.dev() + 1), [], "it lies elsewhere");
    }

    #[test]
    fn what_another_process_has_open_for_writing_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = fs::File::create(&path).unwrap();
        let (device, number) = (file.metadata().unwrap().dev(), file.metadata().unwrap().ino());
        let mut process =
            std::process::Command::new("sleep").arg("60").stdout(file).spawn().unwrap();
        let found = writers(device);
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(found.contains(&number));
        assert!(!writers(device).contains(&number));
    }
}
