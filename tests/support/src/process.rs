//! A process of ours: ended on drop, and what it cost so far.

use std::{
    fs,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::{tools, wait::wait_for};

/// How long a process gets to end when asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A started process, killed on drop. Only this very process is ever signalled.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

/// What a process used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time.
    pub cpu_seconds: f64,
    /// Processor time of its children that ended.
    pub children_cpu_seconds: f64,
    /// Bytes that went to a block device on its behalf, or on that of its children that ended.
    pub written_bytes: u64,
    /// Memory it holds now.
    pub resident_bytes: u64,
}

impl Process {
    /// Starts a command.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, ended: None })
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("cannot ask for a child")?;
        }
        Ok(self.ended)
    }

    /// Kills it as a power cut would, without a last word, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill().context("cannot kill a child")?;
            self.ended = Some(self.child.wait().context("cannot wait for a child")?);
        }
        Ok(())
    }

    /// Asks it to end and returns how it did; kills it when it does not listen.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let ended = wait_for(STOP_DEADLINE, "a process ends when asked to", || self.ended());
        if ended.is_err() {
            self.kill()?;
        }
        ended
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { bail!("a child has no usable id") };
        rustix::process::kill_process(pid, signal).context("cannot signal a child")
    }

    /// Returns what it used so far.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} may still run: {error:#}", self.id());
        }
    }
}

/// Returns what the process of this id used so far.
pub fn usage(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let stat = read("stat")?;
    // The second field is the name in brackets and may hold anything; utime is the 14th.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| {
        let number = fields.get(index).and_then(|field| field.parse::<u64>().ok());
        number.with_context(|| format!("/proc/{pid}/stat is not as expected: {stat}"))
    };
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    // Another user's counters may be closed to us: they count as nothing written.
    let io = read("io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(Usage {
        cpu_seconds: (field(11)? + field(12)?) as f64 / per_second,
        children_cpu_seconds: (field(13)? + field(14)?) as f64 / per_second,
        written_bytes: written.and_then(|w| w.parse().ok()).unwrap_or(0),
        resident_bytes: field(21)? * rustix::param::page_size() as u64,
    })
}

/// Returns a command that ends with the thread that starts it, where the system offers that.
///
/// `setpriv` executes the program in its own place, so the process id is the program's.
pub fn bound_to_us(wrapper: &[String], program: &std::path::Path) -> Command {
    let mut words: Vec<String> = wrapper.to_vec();
    if tools::installed("setpriv").is_some() {
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
    }
    let mut words = words.into_iter();
    let Some(first) = words.next() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(words).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test that fails must not leave its stations running.
    #[test]
    fn a_dropped_process_is_gone() {
        let process = Process::spawn(Command::new("sleep").arg("1000")).unwrap();
        let stat = format!("/proc/{}", process.id());
        assert!(fs::exists(&stat).unwrap());
        drop(process);
        assert!(!fs::exists(&stat).unwrap());
    }

    #[test]
    fn a_process_that_listens_ends_by_the_signal() {
        let mut process = Process::spawn(Command::new("sleep").arg("1000")).unwrap();
        assert!(!process.stop().unwrap().success());
        assert!(process.ended().unwrap().is_some());
    }

    #[test]
    fn work_is_counted() {
        let mut command = bound_to_us(&[], std::path::Path::new("sh"));
        let mut process = Process::spawn(command.args(["-c", "while :; do :; done"])).unwrap();
        let busy = || process.usage().unwrap().cpu_seconds >= 0.05;
        crate::wait_until(Duration::from_secs(20), "time is used", busy).unwrap();
        assert!(process.usage().unwrap().resident_bytes > 4096);
        process.kill().unwrap();
    }
}
