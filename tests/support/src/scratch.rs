//! A folder for one test, gone afterwards.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{PoisonError, RwLock},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{binary, tools};

/// Says where scratch folders are made; the system's temporary folder otherwise.
pub const DIR_ENV: &str = "KEEPSHARE_TEST_DIR";

/// When set, nothing of a failed test is removed.
pub const KEEP_ENV: &str = "KEEPSHARE_TEST_KEEP";

/// What the copy of the program for an ordinary user is called.
const PROGRAM_COPY: &str = "keepshare";

/// How much of a log is shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// Held by every test in a scratch folder, and by one that needs the machine for itself alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A folder that everybody may enter, removed on drop.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    dir: Option<TempDir>,
    path: PathBuf,
    mounted: Vec<PathBuf>,
    failed: bool,
}

/// Runs a test in a folder of its own.
///
/// When it fails, the ends of all `*.log` files there are shown and the files kept; all of it when [`KEEP_ENV`] is set.
pub fn in_scratch(name: &str, test: impl FnOnce(&mut Scratch) -> Result<()>) -> Result<()> {
    let _beside_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    within_scratch(name, test)
}

/// Runs a test as [`in_scratch`] does, while no other test in a scratch folder runs in this process.
///
/// For what a machine that is busy with something else would do otherwise.
pub fn in_scratch_alone(name: &str, test: impl FnOnce(&mut Scratch) -> Result<()>) -> Result<()> {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    within_scratch(name, test)
}

fn within_scratch(name: &str, test: impl FnOnce(&mut Scratch) -> Result<()>) -> Result<()> {
    let mut scratch = Scratch::new(name)?;
    let outcome = test(&mut scratch);
    scratch.failed = outcome.is_err();
    outcome
}

/// Runs a test as [`in_scratch`] does, as an ordinary user.
pub fn in_scratch_as_ordinary_user(
    name: &str,
    test: impl FnOnce(&mut Scratch) -> Result<()> + Send,
) -> Result<()> {
    in_scratch(name, |scratch| {
        if tools::is_root() {
            scratch.hand_over(tools::ORDINARY_USER)?;
        }
        let mut outcome = Ok(());
        tools::as_user(tools::ORDINARY_USER, || outcome = test(scratch))?;
        outcome
    })
}

/// Returns the end of a log.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    format!("--- the end of {}\n{}\n---", log.display(), shown.join("\n"))
}

impl Scratch {
    /// Makes a folder for the test of this name.
    pub fn new(name: &str) -> Result<Self> {
        let base = env::var_os(DIR_ENV).map_or_else(env::temp_dir, PathBuf::from);
        Self::within(&base, name)
    }

    /// Makes a folder below `base`.
    pub fn within(base: &Path, name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("keepshare-{name}-"))
            .tempdir_in(base)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?;
        // An ordinary user's test runs in it too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let path = dir.path().to_owned();
        Ok(Self { name: name.to_owned(), dir: Some(dir), path, mounted: Vec::new(), failed: false })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder in the folder and returns its path.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Returns the program under test, where whoever runs the test may execute it.
    pub fn program(&self) -> Result<PathBuf> {
        let copy = self.join(PROGRAM_COPY);
        if copy.is_file() { Ok(copy) } else { Ok(binary::keepshare()?.to_owned()) }
    }

    /// Hands the folder to another user, with a copy of the program, which may lie where only root can reach it.
    fn hand_over(&self, user: u32) -> Result<()> {
        let copy = self.join(PROGRAM_COPY);
        // By a process of its own: a file that this one writes is busy while any child of another thread, forked meanwhile,
        // still has its descriptor, and a busy file is not executed.
        let copied = Command::new("cp").arg(binary::keepshare()?).arg(&copy).status();
        ensure!(copied.context("cannot run cp")?.success(), "cannot copy the program");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        chown(&self.path, Some(user), Some(user)).context("cannot hand over a folder")
    }

    /// Mounts a file system in memory of that size in the folder, unmounted on drop. Root only.
    pub fn mount_tmpfs(&mut self, name: &str, bytes: u64) -> Result<PathBuf> {
        if !tools::is_root() {
            bail!("only root can mount");
        }
        let path = self.make_dir(name)?;
        let size = format!("size={bytes},mode=0755");
        let mut command = Command::new("mount");
        tools::run(command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path))?;
        self.mounted.push(path.clone());
        Ok(path)
    }

    /// Makes a file system in a sparse file and mounts it in the folder, unmounted on drop; `None` where that cannot be done
    /// here: by an ordinary user, without `mkfs.KIND`, or by a kernel that does not know it.
    pub fn mount_image(&mut self, name: &str, kind: &str, bytes: u64) -> Result<Option<PathBuf>> {
        let Some(mkfs) = tools::installed(&format!("mkfs.{kind}")).filter(|_| tools::is_root())
        else {
            return Ok(None);
        };
        let (image, path) = (self.join(&format!("{name}.image")), self.make_dir(name)?);
        fs::File::create(&image)?.set_len(bytes)?;
        tools::run(Command::new(mkfs).arg("-q").arg(&image))?;
        let mut mount = Command::new("mount");
        let mounted = tools::run(mount.args(["-t", kind, "-o", "loop"]).args([&image, &path]));
        if mounted.is_err() {
            return Ok(None);
        }
        self.mounted.push(path.clone());
        Ok(Some(path))
    }

    /// Shows the logs of a failed test and copies them to where they stay.
    fn keep_logs(&self) -> Result<PathBuf> {
        let name = format!("{}-{}", self.name, std::process::id());
        let kept = env::temp_dir().join("keepshare-failed").join(name);
        fs::create_dir_all(&kept)?;
        for entry in fs::read_dir(&self.path)?.flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                eprintln!("{}", tail(&entry.path()));
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
        Ok(kept)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.failed || thread::panicking() {
            let kept = self.keep_logs();
            if env::var_os(KEEP_ENV).is_some() {
                eprintln!("{}: everything is kept in {}", self.name, self.path.display());
                drop(self.dir.take().map(TempDir::keep));
                return;
            }
            if let Ok(kept) = kept {
                let kept = kept.display();
                eprintln!("{}: the logs are kept in {kept} ({KEEP_ENV}=1 keeps all)", self.name);
            }
        }
        for path in self.mounted.drain(..) {
            // A process that still ends may hold it for a moment: detach, the kernel does the rest.
            let _ = tools::run(Command::new("umount").arg("--lazy").arg(path));
        }
        if let Some(dir) = self.dir.take() {
            open_folders(dir.path());
            if let Err(error) = dir.close() {
                eprintln!("{}: cannot remove {}: {error}", self.name, self.path.display());
            }
        }
    }
}

/// Gives an ordinary user back the right to remove folders that a test closed.
fn open_folders(dir: &Path) {
    if tools::is_root() {
        return;
    }
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
