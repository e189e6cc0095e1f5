//! A Linux kernel of its own that mounts the drive, as a user's machine does.
//!
//! It is booted by `nfs-client-vm`, which lies beside the repository and is no part of it; where it is missing, tests that
//! need it are left out. The guest runs one script: it takes jobs from a folder that both sides see, so that a test can
//! do something here, then something there, with one boot.

use std::{
    env,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{process::Process, scratch::Scratch, station::Reply, tools, wait::wait_for};

/// Names the program that boots the guest, where it does not lie beside the repository.
pub const PROGRAM_ENV: &str = "KEEPSHARE_NFS_CLIENT_VM";

/// How long a guest may take until it runs jobs; the first one of a machine fetches its kernel.
const BOOT_DEADLINE: Duration = Duration::from_secs(400);

/// How long a job may take that says nothing else.
const JOB_DEADLINE: Duration = Duration::from_secs(180);

/// How long a guest gets to end.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// How long a guest may live, in seconds.
const LIFE_SECONDS: &str = "1800";

/// The memory of a guest, in MiB.
const MEMORY_MIB: &str = "768";

/// The kinds of guest, the one that boots fastest first. A machine may not be able to run the first.
const CLIENTS: [&str; 2] = ["uml", "tcg"];

/// Held by the guest that runs: where one is emulated it takes a processor, and two beside each other are slower than in turn.
static TURN: Mutex<()> = Mutex::new(());

/// Which kind of guest works here, as far as this process knows.
static WORKING: Mutex<Option<&'static str>> = Mutex::new(None);

/// A booted guest; it ends on drop.
#[derive(Debug)]
pub struct KernelClient {
    process: Arc<Mutex<Process>>,
    share: PathBuf,
    log: PathBuf,
    jobs: AtomicUsize,
    /// Given back when the guest has ended.
    _turn: MutexGuard<'static, ()>,
}

/// A script that runs in the guest.
#[derive(Debug)]
pub struct Job {
    /// Its path in the shared folder, without what tells its files apart.
    stem: PathBuf,
    what: String,
    guest: Arc<Mutex<Process>>,
    log: PathBuf,
}

impl KernelClient {
    /// Tells why there can be no guest here, if so.
    pub fn hindrance() -> Option<&'static str> {
        if !tools::is_root() {
            Some("a guest of its own needs root")
        } else if program().is_none() {
            Some("there is no shared/nfs-client-vm beside the repository")
        } else {
            None
        }
    }

    /// Boots a guest that reaches the drive at this port, which must be served, once no other guest of this process runs;
    /// nothing is mounted yet.
    pub fn boot(scratch: &Scratch, port: u16) -> Result<Self> {
        let known = *WORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known else {
            for client in CLIENTS {
                if let Some(booted) = Self::try_boot(scratch, port, client)? {
                    *WORKING.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
                    return Ok(booted);
                }
                eprintln!("the guest '{client}' dies here before it is up");
            }
            bail!("none of the guests {CLIENTS:?} lives here");
        };
        Self::try_boot(scratch, port, known)?.with_context(|| format!("the guest {known} died"))
    }

    /// Boots a guest of this kind; none where it dies before it is up.
    fn try_boot(scratch: &Scratch, port: u16, client: &str) -> Result<Option<Self>> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let share = scratch.make_dir(&format!("guest-{client}"))?;
        fs::create_dir_all(share.join(JOBS))?;
        let (script, log) = (share.join("agent.sh"), scratch.join(&format!("guest-{client}.log")));
        fs::write(&script, AGENT)?;
        let out = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = command(&program().context("there is no nfs-client-vm")?);
        command.args(["--client", client, "--no-mount", "--timeout", LIFE_SECONDS]);
        command.args(["--memory", MEMORY_MIB]);
        command.args(["--port", &port.to_string(), "--share"]).arg(&share).arg(&script);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let process = Arc::new(Mutex::new(Process::spawn(&mut command)?));
        let guest = Self { process, share, log, jobs: AtomicUsize::new(0), _turn: turn };
        let began = Instant::now();
        let is_up = wait_for(BOOT_DEADLINE, "the guest is up", || {
            if guest.share.join("ready").exists() {
                return Ok(Some(true));
            }
            match guest.ended()? {
                None => Ok(None),
                Some(status) if status.code() == Some(GUEST_DIED) => Ok(Some(false)),
                Some(status) => bail!("no guest can be made here: {status}"),
            }
        })?;
        eprintln!("the guest {client}: up {is_up} after {:.1?}", began.elapsed());
        Ok(is_up.then_some(guest))
    }

    /// Returns the folder that the guest sees as `$SHARE`.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// Mounts a path of the drive at a folder of the guest, which is made; what the client knows is old after a second.
    pub fn mount(&self, path: &str, at: &str) -> Result<()> {
        self.run(&format!(
            "mkdir -p {at} && mount -t nfs -o $NFS_OPTIONS,actimeo=1 $NFS_SERVER:{path} {at}"
        ))?
        .ok()
        .context("cannot mount")?;
        Ok(())
    }

    /// Runs a shell script to its end, as the guest's root.
    pub fn run(&self, script: &str) -> Result<Reply> {
        self.start(script)?.wait(JOB_DEADLINE)
    }

    /// Starts a shell script.
    pub fn start(&self, script: &str) -> Result<Job> {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed) + 1;
        let stem = self.share.join(JOBS).join(number.to_string());
        let (what, guest, log) = (script.to_owned(), Arc::clone(&self.process), self.log.clone());
        let job = Job { stem, what, guest, log };
        fs::write(job.path("new"), script)?;
        fs::rename(job.path("new"), job.path("sh")).context("cannot hand over a job")?;
        Ok(job)
    }

    fn end(&self) -> Result<()> {
        fs::write(self.share.join("stop"), "")?;
        if self.ended()?.is_none() {
            // Its own children end with it only when it is asked to end.
            self.process.lock().unwrap_or_else(PoisonError::into_inner).signal(Signal::TERM)?;
        }
        wait_for(END_DEADLINE, "the guest ends", || self.ended()).map(|_| ())
    }

    /// Returns how the process that holds the guest ended, if it did; the guest goes with it.
    fn ended(&self) -> Result<Option<ExitStatus>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).ended()
    }
}

impl Drop for KernelClient {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a guest did not end by itself: {error:#}");
        }
    }
}

impl Job {
    /// Returns what it gave, if it has ended.
    pub fn ended(&self) -> Result<Option<Reply>> {
        let code = fs::read_to_string(self.path("code")).unwrap_or_default();
        let Some(code) = code.strip_suffix('\n') else { return Ok(None) };
        let code = code.parse().with_context(|| format!("the code of a job: {code}"))?;
        let err = String::from_utf8_lossy(&fs::read(self.path("err"))?).into_owned();
        Ok(Some(Reply { code: Some(code), out: fs::read(self.path("out"))?, err }))
    }

    /// Returns what it gave, once it has ended.
    pub fn wait(self, deadline: Duration) -> Result<Reply> {
        let reply = wait_for(deadline, "a job of the guest ends", || {
            if let Some(reply) = self.ended()? {
                return Ok(Some(reply));
            }
            let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner).ended()?;
            ensure!(guest.is_none(), "the guest is gone; see {}", self.log.display());
            Ok(None)
        });
        reply.with_context(|| format!("in the guest: {}", self.what))
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.stem.with_extension(kind)
    }
}

/// Returns the program that boots guests.
fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os(PROGRAM_ENV) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().map(|dir| dir.join("shared/nfs-client-vm/run")).find(|path| path.is_file())
}

/// Returns a command that is asked to end when the thread that starts it does, so that the guest ends with it.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

/// Where jobs lie in the shared folder.
const JOBS: &str = "jobs";

/// What `nfs-client-vm` says when a guest died before its script was over.
const GUEST_DIED: i32 = 126;

/// Takes jobs in order and runs each beside the others, until there is a file `stop`. Starting programs is what takes
/// time in a guest that is emulated, so it starts few.
const AGENT: &str = r#"
cd /
number=1
: >"$SHARE/ready"
until [ -e "$SHARE/stop" ]; do
    job=$SHARE/jobs/$number
    if [ -e "$job.sh" ]; then
        (
            sh "$job.sh" >"$job.out" 2>"$job.err" </dev/null
            echo $? >"$job.code"
        ) &
        number=$((number + 1))
    else
        sleep 0.05
    fi
done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that the guest's script does not use would wait for ever.
    #[test]
    fn both_sides_name_the_files_of_a_job_alike() {
        for kind in ["sh", "out", "err", "code"] {
            assert!(AGENT.contains(&format!("$job.{kind}\"")), "{kind}");
        }
        assert!(AGENT.contains(&format!("$SHARE/{JOBS}/")));
    }
}
