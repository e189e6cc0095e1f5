//! Trees to replicate: many small files, and every oddity that a file system allows.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use crate::tools;

/// How many plain files lie in one folder.
const FILES_PER_FOLDER: usize = 100;

/// What kind of tree is wanted.
#[derive(Clone, Copy, Debug)]
pub struct TreeSpec {
    /// How many plain small files, about 4 KiB each.
    pub files: usize,
    /// Whether the oddities come too.
    pub odd: bool,
    /// From which everything random comes.
    pub seed: u64,
}

/// Fills `root`, which is made if needed, and returns how many files were made.
pub fn grow(root: &Path, spec: TreeSpec) -> Result<usize> {
    let mut random = StdRng::seed_from_u64(spec.seed);
    fs::create_dir_all(root)?;
    let mut made = grow_plain(root, spec.files, &mut random)?;
    if spec.odd {
        let odd = root.join("odd");
        made += grow_odd(&odd, &mut random)
            .with_context(|| format!("cannot grow the oddities of {}", odd.display()))?;
    }
    Ok(made)
}

/// Writes a file of random bytes, which no compression makes smaller.
pub fn write_random(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut buffer = vec![0; 1 << 20];
    let mut rest = bytes;
    while rest > 0 {
        let count = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        random.fill_bytes(&mut buffer[..count]);
        file.write_all(&buffer[..count])?;
        rest -= count as u64;
    }
    Ok(())
}

/// Makes a file of that size without content and writes `pages` random pages of 4 KiB into it.
pub fn write_sparse(path: &Path, bytes: u64, pages: u64, random: &mut StdRng) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    let mut page = [0; 4096];
    for _ in 0..pages {
        random.fill_bytes(&mut page);
        file.write_all_at(&page, random.random_range(0..bytes / 4096) * 4096)?;
    }
    Ok(())
}

/// Sets when something changed last, a symlink itself included.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("cannot set the time of {}", path.display()))
}

/// Exchanges two names in one step.
pub fn exchange(a: &Path, b: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
        .with_context(|| format!("cannot exchange {} and {}", a.display(), b.display()))
}

fn grow_plain(root: &Path, files: usize, random: &mut StdRng) -> Result<usize> {
    let mut content = vec![0; 64 * 1024];
    for index in 0..files {
        let half = if index < files / 2 { "a" } else { "b" };
        let folder = root.join(half).join(format!("d{:03}", index / FILES_PER_FOLDER));
        if index % FILES_PER_FOLDER == 0 || index == files / 2 {
            fs::create_dir_all(&folder)?;
        }
        // Mostly small, a few of up to 64 KiB: 4 KiB in the mean.
        let most = 1 << random.random_range(7..=16);
        let size = random.random_range(64..=most);
        random.fill_bytes(&mut content[..size]);
        fs::write(folder.join(format!("f{index:05}")), &content[..size])?;
    }
    Ok(files)
}

fn grow_odd(root: &Path, random: &mut StdRng) -> Result<usize> {
    let mut made = 0;
    for grow in [grow_names, grow_links, grow_attributes, grow_shapes] {
        made += grow(root, random)?;
    }
    Ok(made)
}

/// Returns names that some program, somewhere, gets wrong.
pub fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "with space",
        " leading",
        "trailing ",
        "-dash",
        "--delete",
        "new\nline",
        "tab\there",
        "back\\slash",
        "quote'\"",
        "*?[x]",
        "$(touch x)",
        "`x`",
        "a:b",
        "CON",
        "nul.txt",
        "dot.",
        "...",
        "~",
        "#x#",
        ".hidden",
        "\u{1}\u{7f}",
        "caf\u{e9}",
        "cafe\u{301}",
        "日本語",
        "😀",
        "\u{202e}gnp.exe",
        "@",
        "name@",
        "name@v1.1.1",
        "%2e%2e",
        "İ",
        "ß",
    ]
    .map(|name| name.as_bytes().to_vec())
    .into();
    names.push(b"\xff\xfe\x80".to_vec());
    names.push(b"half \xc3".to_vec());
    names.push(vec![b'x'; 255]);
    names.push([&[b'y'; 253], "é".as_bytes()].concat());
    names
}

fn grow_names(root: &Path, random: &mut StdRng) -> Result<usize> {
    let names = odd_names();
    for (index, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        fs::create_dir_all(root.join("folders").join(name))?;
        fs::create_dir_all(root.join("names"))?;
        fs::write(root.join("names").join(name), random.next_u64().to_le_bytes())?;
        fs::write(root.join("folders").join(name).join("inside"), index.to_string())?;
    }
    let deep = (0..40).fold(root.join("deep"), |path, level| path.join(format!("level{level}")));
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "far down")?;
    Ok(2 * names.len() + 1)
}

fn grow_links(root: &Path, _: &mut StdRng) -> Result<usize> {
    let dir = root.join("links");
    fs::create_dir_all(dir.join("other"))?;
    fs::write(dir.join("first name"), "one file, three names")?;
    fs::hard_link(dir.join("first name"), dir.join("second name"))?;
    fs::hard_link(dir.join("first name"), dir.join("other/third name"))?;
    let long = "x/".repeat(500);
    let targets: [(&str, &[u8]); 7] = [
        ("relative", b"first name"),
        ("to a folder", b"other"),
        ("upwards", b"../../../../../../etc/hostname"),
        ("absolute", b"/etc/hostname"),
        ("dangling", b"nowhere"),
        ("no text", b"\xff\xfe"),
        ("long", long.as_bytes()),
    ];
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), dir.join(name))?;
    }
    symlink("itself", dir.join("itself"))?;
    set_mtime(&dir.join("dangling"), 1_000_000_000, 987_654_321)?;
    Ok(1)
}

fn grow_attributes(root: &Path, _: &mut StdRng) -> Result<usize> {
    let dir = root.join("attributes");
    fs::create_dir_all(&dir)?;
    let mut made = 0;
    let mut file = |name: String| -> Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, "attributes")?;
        made += 1;
        Ok(path)
    };
    // What its own owner cannot read only root can replicate.
    let closed: &[u32] = if tools::is_root() { &[0o000, 0o044, 0o200] } else { &[] };
    for mode in [0o400, 0o444, 0o600, 0o640, 0o755, 0o777].iter().chain(closed) {
        fs::set_permissions(file(format!("mode {mode:04o}"))?, fs::Permissions::from_mode(*mode))?;
    }
    let times = [(0, 0), (1, 999_999_999), (-86_400, 5), (946_684_799, 123_456_789)];
    for (seconds, nanoseconds) in times.into_iter().chain([(2_147_483_648, 1), (4_102_444_800, 0)])
    {
        set_mtime(&file(format!("time {seconds}.{nanoseconds}"))?, seconds, nanoseconds)?;
    }
    if tools::is_root() {
        for (owner, group) in [(1, 1), (1234, 4321), (65_534, 0), (0, 2_000_000_000)] {
            let path = file(format!("owner {owner} {group}"))?;
            std::os::unix::fs::lchown(path, Some(owner), Some(group))?;
        }
        let link = dir.join("an owned link");
        symlink("nowhere", &link)?;
        std::os::unix::fs::lchown(link, Some(77), Some(78))?;
    }
    let path = file("with xattrs".to_owned())?;
    ignore_unsupported(xattr::set(&path, "user.comment", b"kept\0whole"))?;
    ignore_unsupported(xattr::set(&path, "user.empty", b""))?;
    grow_folders_with_attributes(&dir)?;
    Ok(made)
}

fn grow_folders_with_attributes(dir: &Path) -> Result<()> {
    for mode in [0o500, 0o700, 0o711, 0o755, 0o1777] {
        let path = dir.join(format!("folder {mode:04o}"));
        fs::create_dir(&path)?;
        fs::write(path.join("inside"), "x")?;
        set_mtime(&path, 1_234_567_890, 123_456_789)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn grow_shapes(root: &Path, random: &mut StdRng) -> Result<usize> {
    let dir = root.join("shapes");
    fs::create_dir_all(dir.join("empty folder/also empty"))?;
    fs::write(dir.join("empty file"), "")?;
    write_sparse(&dir.join("sparse"), 64 << 20, 3, random)?;
    File::create(dir.join("only a hole"))?.set_len(3 << 20)?;
    fs::write(dir.join("zeros"), vec![0; 300_000])?;
    // Around the sizes at which content is kept in another way.
    let sizes = [1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 1_000_001];
    for size in sizes {
        let mut content = vec![0; size];
        random.fill_bytes(&mut content);
        fs::write(dir.join(format!("size {size}")), content)?;
    }
    Ok(4 + sizes.len())
}

fn ignore_unsupported(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        other => Ok(other?),
    }
}
