//! One running station and its command line.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    process::{self, Process, Usage},
    scratch::Scratch,
    wait::wait_for,
};

/// How long a station gets to answer after it was started; it may have to replay and repair first.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// What one call of the command line gave.
#[derive(Debug)]
pub struct Reply {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Reply {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Self { code: output.status.code(), out: output.stdout, err })
    }

    /// Runs a command to its end with `input` as its standard input.
    pub fn of_with_input(command: &mut Command, input: &str) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut stdin = child.stdin.take().context("a child has the input that was asked for")?;
        // Whoever does not want all of it says why by other means.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("cannot wait for a child")?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Self { code: output.status.code(), out: output.stdout, err })
    }

    /// Returns itself unless the command failed.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == Some(0), "exit code {:?}: {}", self.code, self.err.trim());
        Ok(self)
    }

    /// Returns standard output as JSON, unless the command failed.
    pub fn json(self) -> Result<Value> {
        let reply = self.ok()?;
        serde_json::from_slice(&reply.out)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&reply.out)))
    }

    /// Returns `error` and `hint` of a failure with `--json`, unless standard error is anything but that object.
    pub fn failure(&self) -> Result<(String, Option<String>)> {
        let object: Value = serde_json::from_str(&self.err)
            .with_context(|| format!("not one JSON object: {}", self.err))?;
        let error = object["error"].as_str().context("no error in it")?;
        Ok((error.to_owned(), object["hint"].as_str().map(str::to_owned)))
    }
}

/// The doors for users that a station has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Doors {
    /// Where it serves the drive; nowhere when none.
    pub nfs: Option<SocketAddr>,
    /// Where the drive lists `@versions`: `root`, `never` or `everywhere`.
    pub show: &'static str,
}

impl Doors {
    /// No doors: two stations of one machine would want the same ports.
    pub const SHUT: Self = Self { nfs: None, show: "root" };

    fn table(&self) -> String {
        let nfs = self.nfs.map_or_else(|| "off".to_owned(), |address| address.to_string());
        format!("[doors]\nhttps = \"off\"\nnfs = \"{nfs}\"\nshow = \"{}\"\n", self.show)
    }
}

/// A station in a folder of its own: `station.toml`, `state/` and a log. Killed on drop.
#[derive(Debug)]
pub struct Station {
    name: String,
    program: PathBuf,
    home: PathBuf,
    state: PathBuf,
    wrapper: Vec<String>,
    log: PathBuf,
    doors: Doors,
    process: Option<Process>,
}

impl Station {
    /// Returns a station that is not made yet; `wrapper` are the words before every command line of it.
    pub fn new(scratch: &Scratch, name: &str, wrapper: Vec<String>) -> Result<Self> {
        let home = scratch.make_dir(name)?;
        Ok(Self {
            name: name.to_owned(),
            program: scratch.program()?,
            state: home.join("state"),
            log: scratch.join(&format!("{name}.log")),
            home,
            wrapper,
            doors: Doors::SHUT,
            process: None,
        })
    }

    /// Lets it keep its state elsewhere, such as on a small disk.
    #[must_use]
    pub fn with_state(mut self, state: &Path) -> Self {
        self.state = state.to_owned();
        self
    }

    /// Gives it other doors than none, before it is made.
    #[must_use]
    pub fn with_doors(mut self, doors: Doors) -> Self {
        self.doors = doors;
        self
    }

    /// Puts other words before its command lines, from the next start on.
    pub fn wrap(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Gives it other doors, from the next start on.
    pub fn change_doors(&mut self, doors: Doors) -> Result<()> {
        self.doors = doors;
        self.write_doors()
    }

    /// Returns what it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Returns its config file.
    pub fn config(&self) -> PathBuf {
        self.home.join("station.toml")
    }

    /// Makes it the first station of a cluster, listening at `listen`.
    pub fn init(&self, listen: &str) -> Result<()> {
        let state = self.state.to_string_lossy().into_owned();
        self.call(["init", "--name", &self.name, "--listen", listen, "--state", &state])?.ok()?;
        self.write_doors()
    }

    /// Makes it a further station of the cluster of `primary`; others reach it at `address` if that is not `listen`.
    pub fn join(
        &self,
        primary: &str,
        token: &str,
        listen: &str,
        address: Option<&str>,
    ) -> Result<()> {
        let state = self.state.to_string_lossy().into_owned();
        let mut args = vec!["join", primary, "--token", token, "--name", &self.name];
        args.extend(["--listen", listen, "--state", &state]);
        if let Some(address) = address {
            args.extend(["--address", address]);
        }
        self.call(args)?.ok()?;
        self.write_doors()
    }

    /// Puts the doors at the end of the config, where they stand.
    fn write_doors(&self) -> Result<()> {
        let text = fs::read_to_string(self.config()).context("cannot read the config")?;
        let (above, _) = text.split_once("[doors]").context("the config has no doors")?;
        fs::write(self.config(), format!("{above}{}", self.doors.table()))
            .context("cannot write the config")
    }

    /// Returns a new join token.
    pub fn token(&self) -> Result<String> {
        let made = self.call(["token", "create", "--json"])?.json()?;
        Ok(made["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// Starts the service and returns when it answers.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command(["run"]);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = self.process.insert(Process::spawn(&mut command)?);
        let (program, config) = (&self.program, self.home.join("station.toml"));
        wait_for(READY_DEADLINE, &format!("{} answers", self.name), || {
            if let Some(status) = process.ended()? {
                bail!("{} ended right away: {status}", self.name);
            }
            let mut ask = Command::new(program);
            let asked = Reply::of(ask.args(["status", "--json", "--config"]).arg(&config))?;
            Ok((asked.code == Some(0)).then_some(()))
        })
    }

    /// Kills the service as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Kills the service as [`Self::kill`] does, while somebody else uses it.
    pub fn kill_now(&self) -> Result<()> {
        let process = self.process.as_ref().context("the station does not run")?;
        process.signal(rustix::process::Signal::KILL)
    }

    /// Asks the service to end; an error unless it does so by itself and well.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let status = process.stop()?;
        ensure!(status.success(), "{} ended badly: {status}", self.name);
        Ok(())
    }

    /// Returns whether the service still runs.
    pub fn runs(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.ended()?.is_none()),
            None => Ok(false),
        }
    }

    /// Returns what the service used since it was started.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("the station does not run")?.usage()
    }

    /// Runs the command line on this station's machine, for this station.
    pub fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Reply> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Reply::of(&mut self.command(&args)).with_context(|| format!("keepshare {args:?}"))
    }

    /// Starts the command line as [`Self::call`] does, and waits for nothing; it is killed on drop.
    pub fn start_call<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Process> {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(&mut command)
    }

    /// Runs the command line as [`Self::call`] does, with `input` as its standard input.
    pub fn call_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<Reply> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Reply::of_with_input(&mut self.command(&args), input)
            .with_context(|| format!("keepshare {args:?}"))
    }

    /// Returns what `status --json` says of this station.
    pub fn status(&self) -> Result<Value> {
        let report = self.call(["status", "--json"])?.json()?;
        Ok(report["stations"][0].clone())
    }

    /// Returns what `status --json` says of a set.
    pub fn set_status(&self, set: &str) -> Result<Value> {
        let status = self.status()?;
        let sets = status["sets"].as_array().context("no sets in the status")?;
        let found = sets.iter().find(|status| status["name"] == set);
        found.cloned().with_context(|| format!("{} has no set {set}", self.name))
    }

    /// Returns the versions of a path in a set, newest first; none where the path is not known.
    pub fn versions(&self, set: &str, path: &Path) -> Result<Vec<Value>> {
        let reply = self.call([OsStr::new("versions"), &place(set, path), OsStr::new("--json")])?;
        if reply.code == Some(3) {
            return Ok(Vec::new());
        }
        let rows = reply.json()?;
        Ok(rows.as_array().context("versions are no array")?.clone())
    }

    /// Returns the content of a path as it was.
    pub fn show(&self, set: &str, path: &Path, when: &str) -> Result<Vec<u8>> {
        let mut what = place(set, path);
        what.push(format!("@{when}"));
        Ok(self.call([OsStr::new("show"), &what])?.ok()?.out)
    }

    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = process::bound_to_us(&self.wrapper, &self.program);
        command.args(args).arg("--config").arg(self.config());
        clean(&mut command, &self.home);
        command
    }
}

/// A running `keepshare demo`, killed on drop.
#[derive(Debug)]
pub struct Demo {
    /// What it printed when it was ready.
    pub ready: Value,
    program: PathBuf,
    home: PathBuf,
    process: Process,
}

impl Demo {
    /// Starts the demo with its state in the scratch folder and returns when it is ready.
    pub fn start(scratch: &Scratch, source: Option<&Path>) -> Result<Self> {
        Self::start_with(scratch, source, &[])
    }

    /// Starts the demo of one station that keeps its own files.
    pub fn start_single(scratch: &Scratch, source: Option<&Path>) -> Result<Self> {
        Self::start_with(scratch, source, &["--single"])
    }

    fn start_with(scratch: &Scratch, source: Option<&Path>, options: &[&str]) -> Result<Self> {
        let home = scratch.make_dir("demo-home")?;
        let log = scratch.join("demo.log");
        let out = scratch.join("demo.out");
        let program = scratch.program()?;
        let mut command = process::bound_to_us(&[], &program);
        command.args(["demo", "--json", "--state"]).arg(scratch.join("demo-state")).args(options);
        if let Some(source) = source {
            command.arg("--source").arg(source);
        }
        clean(&mut command, &home);
        let err = OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(err);
        let mut process = Process::spawn(&mut command)?;
        let line = wait_for(READY_DEADLINE, "the demo is ready", || {
            if let Some(status) = process.ended()? {
                bail!("the demo ended right away: {status}");
            }
            let text = fs::read_to_string(&out)?;
            Ok(text.split_once('\n').map(|(line, _)| line.to_owned()))
        })?;
        let ready = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        Ok(Self { ready, program, home, process })
    }

    /// Returns a path that it printed.
    pub fn path(&self, key: &str) -> Result<PathBuf> {
        let text =
            self.ready[key].as_str().with_context(|| format!("the demo printed no {key}"))?;
        Ok(PathBuf::from(text))
    }

    /// Runs the command line against the demo.
    pub fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Reply> {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.path("socket")?).args(args);
        clean(&mut command, &self.home);
        Reply::of(&mut command)
    }

    /// Returns the process id: master and replica are one process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the versions of a path in the demo's set, newest first.
    pub fn versions(&self, path: &Path) -> Result<Vec<Value>> {
        let set = self.ready["set"].as_str().context("the demo printed no set")?;
        let rows = self.call([OsStr::new("versions"), &place(set, path), OsStr::new("--json")])?;
        Ok(rows.json()?.as_array().context("versions are no array")?.clone())
    }

    /// Interrupts it, as Ctrl-C does; an error unless it ends well.
    pub fn interrupt(mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::INT)?;
        let process = &mut self.process;
        let ended = wait_for(READY_DEADLINE, "the demo ends", || process.ended())?;
        ensure!(ended.success(), "the demo ended badly: {ended}");
        Ok(())
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }
}

/// Returns `SET:path`.
pub fn place(set: &str, path: &Path) -> OsString {
    let mut place = OsString::from(format!("{set}:"));
    place.push(path);
    place
}

/// Gives a command a home of its own and none of our settings.
fn clean(command: &mut Command, home: &Path) {
    for name in ["KEEPSHARE_SOCKET", "KEEPSHARE_CONFIG", "KEEPSHARE_TOKEN"] {
        command.env_remove(name);
    }
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("LC_ALL", "C.UTF-8").current_dir("/");
}
