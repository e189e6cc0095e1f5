//! rsync to its daemon on 127.0.0.1, the peer beside which we are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use keepshare_support::{
    Scratch, cluster::free_address, process as support, process::Process, tools, wait_until,
};

use crate::rig::{Used, wait};

/// The options of a plain copy. Times count to the nanosecond: edits within a second would be missed otherwise.
pub(crate) const PLAIN: &[&str] = &["-a", "--delete", "--modify-window=-1"];

/// The options for a large file that changed in one place.
pub(crate) const IN_PLACE: &[&str] =
    &["-a", "--delete", "--modify-window=-1", "--inplace", "--no-whole-file"];

/// A daemon and the folder that it writes.
#[derive(Debug)]
pub(crate) struct Rsync {
    daemon: Process,
    url: String,
    copy: PathBuf,
}

impl Rsync {
    /// Starts a daemon that writes below the scratch folder; none where rsync is not installed.
    pub(crate) fn start(scratch: &Scratch) -> Result<Option<Self>> {
        if tools::installed("rsync").is_none() {
            eprintln!("rsync is not installed: nothing is measured beside us");
            return Ok(None);
        }
        let copy = scratch.make_dir("rsync-copy")?;
        let port = free_address()?.port();
        let config = scratch.join("rsyncd.conf");
        let mut text = format!(
            "use chroot = no\nport = {port}\naddress = 127.0.0.1\nlog file = {}\n",
            scratch.join("rsyncd.log").display()
        );
        if tools::is_root() {
            text += "uid = root\ngid = root\n";
        }
        text += &format!("[copy]\npath = {}\nread only = no\n", copy.display());
        fs::write(&config, text)?;
        let mut command = support::bound_to_us(&[], Path::new("rsync"));
        command.args(["--daemon", "--no-detach", "--config"]).arg(&config);
        let daemon = Process::spawn(command.stdin(Stdio::null()))?;
        let url = format!("rsync://127.0.0.1:{port}/copy/");
        wait_until(Duration::from_secs(20), "the rsync daemon answers", || {
            Command::new("rsync").arg(&url).output().is_ok_and(|output| output.status.success())
        })?;
        Ok(Some(Self { daemon, url, copy }))
    }

    /// Returns the folder that the daemon writes.
    pub(crate) fn copy(&self) -> &Path {
        &self.copy
    }

    /// Copies once and returns what that took, both processes together.
    pub(crate) fn pass(&self, source: &Path, options: &[&str]) -> Result<Used> {
        let (daemon, us) = (self.daemon.usage()?, support::usage(process::id())?);
        let started = Instant::now();
        let mut command = Command::new("rsync");
        command.args(options).arg("--stats").arg(source.join("")).arg(&self.url);
        let output = command.output().context("cannot start rsync")?;
        let seconds = started.elapsed().as_secs_f64();
        // 23 and 24: files went away or changed meanwhile, as they do under churn.
        if !matches!(output.status.code(), Some(0 | 23 | 24)) {
            bail!("rsync: {}", String::from_utf8_lossy(&output.stderr));
        }
        // The daemon's child ends a little after the client, and counts only then.
        let children = format!("/proc/{0}/task/{0}/children", self.daemon.id());
        wait("the daemon's child ends", || {
            fs::read_to_string(&children).is_ok_and(|text| text.trim().is_empty())
        })?;
        let (daemon_after, us_after) = (self.daemon.usage()?, support::usage(process::id())?);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Used {
            seconds,
            cpu_seconds: daemon_after.cpu_seconds + daemon_after.children_cpu_seconds
                - daemon.cpu_seconds
                - daemon.children_cpu_seconds
                + us_after.children_cpu_seconds
                - us.children_cpu_seconds,
            written_bytes: daemon_after.written_bytes - daemon.written_bytes,
            wire_bytes: counted(&text, "Total bytes sent: ")
                + counted(&text, "Total bytes received: "),
        })
    }
}

fn counted(stats: &str, label: &str) -> u64 {
    let number = stats.lines().find_map(|line| line.strip_prefix(label)).unwrap_or("0");
    number.replace(',', "").trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use keepshare_support::{tree, tree::TreeSpec};

    use super::*;

    /// A peer that is measured wrong makes us look good or bad: its counters are checked against what it did.
    #[test]
    fn a_pass_copies_and_counts_what_it_sent() {
        let scratch = Scratch::new("rsync-peer").unwrap();
        let Some(rsync) = Rsync::start(&scratch).unwrap() else {
            return tools::skip("a_pass_copies_and_counts_what_it_sent", "rsync is not installed");
        };
        let source = scratch.join("source");
        tree::grow(&source, TreeSpec { files: 300, odd: false, seed: 1 }).unwrap();
        tree::write_random(&source.join("large"), 8 << 20, 2).unwrap();
        let first = rsync.pass(&source, PLAIN).unwrap();
        crate::rig::check_copy(&source, rsync.copy()).unwrap();
        assert!(first.wire_bytes > 8 << 20, "{first:?}");
        assert!(first.cpu_seconds > 0.0, "{first:?}");
        let again = rsync.pass(&source, PLAIN).unwrap();
        assert!(again.wire_bytes < 100_000, "{again:?}");
    }
}
