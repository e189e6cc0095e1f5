//! Users and logins, as an admin and a user type them, against a running demo.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Demo, Reply, Scratch, Station, cluster::free_address, wait_for};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(60);

/// A demo, and a user's machine beside it with a home of its own.
struct Stage {
    scratch: Scratch,
    demo: Demo,
    home: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let source = scratch.make_dir("source")?;
        fs::write(source.join("a.txt"), "first")?;
        let demo = Demo::start(&scratch, Some(&source))?;
        let home = scratch.make_dir("home")?;
        Ok(Self { scratch, demo, home })
    }

    /// Types a command on the user's machine, with this on standard input.
    fn types(&self, input: &str, args: &[&str]) -> Result<Reply> {
        let typed = self.scratch.join("typed");
        fs::write(&typed, input)?;
        let mut command = Command::new(self.scratch.program()?);
        command.args(args).env("HOME", &self.home).current_dir("/");
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "KEEPSHARE_CONFIG", "SUDO_UID"] {
            command.env_remove(name);
        }
        command.env("KEEPSHARE_SOCKET", self.demo.path("socket")?);
        command.stdin(Stdio::from(File::open(&typed)?));
        Reply::of(&mut command)
    }

    fn told(&self, key: &str) -> Result<&str> {
        self.demo.ready[key].as_str().with_context(|| format!("the demo told no {key}"))
    }

    /// Returns where to log in, as it is typed after `@`.
    fn station(&self) -> Result<&str> {
        self.told("https")?.strip_prefix("https://").context("https begins so")
    }

    fn ca(&self) -> Result<String> {
        let status = self.types("", &["status", "--json"])?.ok()?.json()?;
        let ca = status["stations"][0]["ca"].as_str().context("status shows the CA")?;
        Ok(ca.to_owned())
    }

    fn log_in(&self, who: &str, password: &str, options: &[&str]) -> Result<Reply> {
        let args = ["login", who, "--password-stdin", "--json"];
        self.types(&format!("{password}\n"), &[&args, options].concat())
    }
}

/// A machine on which no station runs, with a home of its own: what a user has at the desk.
struct Desk<'s> {
    stage: &'s Stage,
    who: String,
}

impl<'s> Desk<'s> {
    /// Logs in from it.
    fn logged_in(stage: &'s Stage) -> Result<Self> {
        let who = format!("{}@{}", stage.told("user")?, stage.station()?);
        let desk = Self { stage, who };
        desk.log_in(stage.told("password")?)?.ok()?;
        Ok(desk)
    }

    fn log_in(&self, password: &str) -> Result<Reply> {
        let ca = self.stage.ca()?;
        self.stage.log_in(&self.who, password, &["--ca", &ca])
    }

    /// Types a command that no station of this machine can answer.
    fn types(&self, input: &str, args: &[&str]) -> Result<Reply> {
        let typed = self.stage.scratch.join("typed");
        fs::write(&typed, input)?;
        let mut command = Command::new(self.stage.scratch.program()?);
        command.args(args).arg("--json").env("HOME", &self.stage.home).current_dir("/");
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "SUDO_UID"] {
            command.env_remove(name);
        }
        for name in ["KEEPSHARE_CONFIG", "KEEPSHARE_SOCKET"] {
            command.env_remove(name);
        }
        command.env("KEEPSHARE_AS", &self.who);
        command.stdin(Stdio::from(File::open(&typed)?));
        Reply::of(&mut command)
    }
}

/// The whole life of a login on a user's own computer: versions, a look, a search, a restore; nothing of what is closed to
/// the user; and nothing at all from the moment when an admin ends it.
#[test]
fn a_user_asks_from_a_desk_without_a_station() -> Result<()> {
    let stage = Stage::new("desk")?;
    let source = PathBuf::from(stage.told("source")?);
    fs::create_dir(source.join("closed"))?;
    fs::write(source.join("closed/plan.txt"), "not for you")?;
    fs::write(source.join("a.txt"), "second")?;
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o000))?;
    let admin = |args: &[&str]| stage.types("", args);
    wait_for(SOON, "the closed folder to arrive", || {
        let shut = admin(&["show", "demo:closed", "--json"])?;
        let two = admin(&["versions", "demo:a.txt", "--json"])?;
        let versions = two.ok()?.json()?.as_array().map_or(0, Vec::len);
        Ok((shut.code == Some(0) && versions >= 2).then_some(()))
    })?;
    wait_for(SOON, "the closed folder to be closed", || {
        let version = admin(&["versions", "demo:closed", "--json"])?.json()?;
        Ok((version[0]["mode"] == "0000").then_some(()))
    })?;
    let desk = Desk::logged_in(&stage)?;
    let versions = desk.types("", &["versions", "demo:a.txt"])?.ok()?.json()?;
    ensure!(versions.as_array().map(Vec::len) >= Some(2), "{versions}");
    let first = versions.as_array().and_then(|all| all.last()).context("there are some")?;
    let first = first["version"].as_str().context("it has an id")?;
    let shown = desk.types("", &["show", &format!("demo:a.txt@{first}")])?.ok()?;
    ensure!(shown.out == b"first", "{shown:?}");
    let found = desk.types("", &["find", "a.txt"])?.ok()?.json()?;
    ensure!(found[0]["path"] == "a.txt", "{found}");
    let told = desk.types("", &["diff", &format!("demo:a.txt@{first}")])?.ok()?.json()?;
    ensure!(told["equal"] == false && told["size_to"] == 6, "{told}");
    let told = desk.types("", &["diff", "demo:@now", "@latest"])?.ok()?.json()?;
    ensure!(!told.to_string().contains("plan"), "what is closed is in no comparison: {told}");
    let out = stage.scratch.join("out");
    let to = out.to_string_lossy().into_owned();
    desk.types("", &["restore", &format!("demo:a.txt@{first}"), "--to", &to])?.ok()?;
    ensure!(fs::read(out.join("a.txt"))? == b"first");
    desk.types("", &["restore", &format!("demo:a.txt@{first}")])?.ok()?;
    ensure!(fs::read(source.join("a.txt"))? == b"first", "brought back by the master");

    // What is closed to the user is what does not exist.
    for command in ["versions", "show"] {
        let closed = desk.types("", &[command, "demo:closed/plan.txt"])?;
        let nothing = desk.types("", &[command, "demo:closed/plam.txt"])?;
        ensure!(closed.code == Some(3) && nothing.code == Some(3), "{closed:?} {nothing:?}");
        let same = |reply: &Reply| reply.err.replace("plam", "plan");
        ensure!(same(&closed) == same(&nothing), "{closed:?} {nothing:?}");
    }
    ensure!(desk.types("", &["find", "plan"])?.code == Some(3), "it is not found either");
    let closed = desk.types("", &["diff", "demo:closed/plan.txt@latest", "demo:a.txt"])?;
    ensure!(closed.code == Some(3), "{closed:?}");
    // What is an admin's is refused, and another set does not exist.
    for command in [
        &["status"][..],
        &["set", "list"],
        &["retention", "show"],
        &["retention", "explain", "demo:a.txt"],
        &["retention", "undo", "demo", "--yes"],
        &["point", "create", "demo", "mine"],
        &["point", "every", "demo"],
        &["user", "list"],
    ] {
        for who in [&[][..], &["--as", &desk.who]] {
            let refused = desk.types("", &[command, who].concat())?;
            ensure!(refused.code == Some(4), "{command:?} {who:?}: {refused:?}");
            ensure!(refused.failure()?.0.contains("admin"), "{refused:?}");
        }
    }
    ensure!(desk.types("", &["versions", "other:a.txt"])?.code == Some(3));

    let sessions = desk.types("", &["session", "list"])?.ok()?.json()?;
    let own = sessions.as_array().context("a list")?;
    ensure!(own.iter().all(|session| session["user"] == stage.told("user").unwrap_or_default()));
    // The user's password, and with it every login.
    let password = stage.told("password")?;
    let wrong = desk.types("wrong horse\nanother horse\n", &["passwd", "--password-stdin"])?;
    ensure!(wrong.code == Some(4), "{wrong:?}");
    let lines = format!("{password}\nanother horse\n");
    desk.types(&lines, &["passwd", "--password-stdin"])?.ok()?;
    let ended = desk.types("", &["versions", "demo:a.txt"])?;
    ensure!(ended.code == Some(4), "the login was made with the former one: {ended:?}");
    ensure!(ended.failure()?.1.is_some_and(|hint| hint.contains("log in")), "{ended:?}");
    desk.log_in("another horse")?.ok()?;
    desk.types("", &["versions", "demo:a.txt"])?.ok()?;
    // An admin ends it at once.
    admin(&["session", "revoke", "--user", stage.told("user")?])?.ok()?;
    ensure!(desk.types("", &["versions", "demo:a.txt"])?.code == Some(4));
    // And so does the user, who is forgotten here with it.
    desk.log_in("another horse")?.ok()?;
    desk.types("", &["logout"])?.ok()?;
    let again = desk.types("", &["logout"])?;
    ensure!(again.code != Some(4) || again.failure()?.1.is_some(), "{again:?}");
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

fn lines(reply: &Reply) -> Vec<&str> {
    std::str::from_utf8(&reply.out).unwrap_or_default().lines().collect()
}

/// From nothing to a mount command: what a user at a desk does first.
#[test]
fn a_user_logs_in_over_https_and_gets_a_mount_command() -> Result<()> {
    let stage = Stage::new("login")?;
    let (user, password) = (stage.told("user")?, stage.told("password")?);
    let who = format!("{user}@{}", stage.station()?);

    let stranger = stage.log_in(&who, password, &[])?;
    ensure!(stranger.code == Some(4), "an unknown station: {stranger:?}");
    ensure!(stranger.failure()?.1.is_some_and(|hint| hint.contains("--ca")), "{stranger:?}");
    let wrong = stage.log_in(&who, password, &["--ca", &"0".repeat(64)])?;
    ensure!(wrong.code == Some(4), "another CA: {wrong:?}");
    ensure!(!stage.home.join(".config/keepshare").exists(), "nothing of it is remembered");

    let answer = stage.log_in(&who, password, &["--ca", &stage.ca()?])?.ok()?.json()?;
    let ticket = answer["ticket"].as_str().context("there is a ticket")?;
    ensure!(ticket.len() == 32 && answer["mount_path"] == format!("/login/{ticket}"), "{answer}");
    ensure!(answer["user"] == user && answer["set"] == "demo", "{answer}");
    ensure!(answer["client_address"] == "127.0.0.1" && answer["shared"] == false, "{answer}");
    let own = rustix::process::getuid().as_raw();
    ensure!(answer["client_uid"] == own, "the one who typed it: {answer}");
    let linux = answer["commands"]["linux"].as_str().context("there is a command")?;
    ensure!(linux.contains(&format!("127.0.0.1:/login/{ticket} ")) && linux.contains("nolock"));

    // The station is known now, and so is the login.
    let known = stage.home.join(".config/keepshare");
    ensure!(mode(&known)? == 0o700 && mode(&known.join("logins"))? == 0o600);
    let options = ["--shared", "--address", "192.0.2.7", "--set", "demo"];
    let shared = stage.log_in(&who, password, &options)?.ok()?.json()?;
    ensure!(shared["client_uid"].is_null() && shared["shared"] == true, "{shared}");
    ensure!(shared["client_address"] == "192.0.2.7", "{shared}");
    let unmounted = stage.types("", &["login", &who, "--resume", "--json"])?;
    ensure!(unmounted.code == Some(3), "nothing was mounted: {unmounted:?}");
    let folder = stage.scratch.join("mnt").to_string_lossy().into_owned();
    let mounting = stage.types("", &["mount", &who, &folder, "--resume", "--json"])?;
    ensure!(mounting.code == Some(2), "{mounting:?}");
    let (error, hint) = mounting.failure()?;
    ensure!(!error.contains("is mounted") && hint.is_some(), "nobody looked: {error}");
    let text = stage.types(&format!("{password}\n"), &["login", &who, "--password-stdin"])?.ok()?;
    for system in ["Linux", "macOS", "Windows"] {
        ensure!(lines(&text).iter().any(|line| line.trim_start().starts_with(system)), "{text:?}");
    }
    stage.demo.interrupt()
}

#[test]
fn logins_are_refused_alike_and_say_what_helps() -> Result<()> {
    let stage = Stage::new("refused")?;
    let (user, password) = (stage.told("user")?.to_owned(), stage.told("password")?);
    let station = stage.station()?;
    let trust = ["--accept-new"];
    let wrong = stage.log_in(&format!("{user}@{station}"), "wrong password", &trust)?;
    let unknown = stage.log_in(&format!("nobody@{station}"), "wrong password", &trust)?;
    ensure!(wrong.code == Some(4) && wrong.failure()? == unknown.failure()?, "{wrong:?}");
    let no_set = stage.log_in(&format!("{user}@{station}"), password, &["--set", "other"])?;
    ensure!(no_set.code == Some(3) && no_set.failure()?.0.contains("other"), "{no_set:?}");
    let nobody = stage.log_in(&format!("{user}@127.0.0.1:1"), password, &trust)?;
    ensure!(nobody.code == Some(5) && nobody.failure()?.1.is_some(), "{nobody:?}");
    let silent = stage.types("", &["login", &format!("{user}@{station}"), "--json"])?;
    ensure!(silent.code == Some(2), "no terminal to ask on: {silent:?}");
    ensure!(silent.failure()?.1.is_some_and(|hint| hint.contains("--password-stdin")));
    for _ in 0..6 {
        stage.log_in(&user, "wrong password", &[])?;
    }
    let waits = stage.log_in(&user, password, &[])?;
    ensure!(waits.code == Some(5) && waits.failure()?.0.contains("try again in"), "{waits:?}");
    stage.demo.interrupt()
}

/// Everything an admin does with users, on the station itself.
#[test]
fn users_come_and_go_and_outlive_a_restart() -> Result<()> {
    let stage = Stage::new("users")?;
    let numbers = ["--uid", "4001", "--gid", "4002", "--group", "50", "--json"];
    let add =
        |name: &'static str| [&["user", "add", name, "--password-stdin"][..], &numbers].concat();
    let added = stage.types("correct horse\n", &add("zoe"))?.ok()?.json()?;
    ensure!(added["uid"] == 4001 && added["gid"] == 4002 && added["may_write"] == true, "{added}");
    let slip = [&add("yan")[..], &["--set", "demoo"]].concat();
    let slip = stage.types("correct horse\n", &slip)?;
    ensure!(slip.code == Some(3), "{slip:?}");
    let (error, hint) = slip.failure()?;
    ensure!(error.contains("'demoo'") && hint.is_some_and(|hint| hint.contains("demo")), "{error}");
    ensure!(stage.log_in("yan", "correct horse", &[])?.code == Some(4), "yan was added");
    let again = stage.types("correct horse\n", &add("zoe"))?;
    ensure!(again.code == Some(4), "{again:?}");
    let short = stage.types("short\n", &add("yan"))?;
    ensure!(short.code == Some(2) && short.failure()?.0.contains("8 characters"), "{short:?}");
    let nowhere = stage.types(
        "correct horse\n",
        &["user", "add", "no.such.account", "--password-stdin", "--json"],
    )?;
    ensure!(nowhere.code == Some(2), "{nowhere:?}");
    ensure!(nowhere.failure()?.1.is_some_and(|hint| hint.contains("--uid")), "{nowhere:?}");
    ensure!(stage.log_in("zoe", "correct horse", &[])?.code == Some(0));

    let Stage { scratch, demo, home } = stage;
    let state = demo.path("state")?;
    demo.interrupt()?;
    let demo = Demo::start(&scratch, Some(&scratch.join("source")))?;
    let stage = Stage { scratch, demo, home };
    let users = stage.types("", &["user", "list", "--json"])?.ok()?.json()?;
    let names: Vec<_> = users.as_array().into_iter().flatten().map(|user| &user["name"]).collect();
    ensure!(names.len() == 2 && names.contains(&&Value::from("zoe")), "{users}");
    ensure!(stage.log_in(stage.told("user")?, stage.told("password")?, &[])?.code == Some(0));
    ensure!(stage.log_in("zoe", "correct horse", &[])?.code == Some(0));

    let change = ["user", "password", "zoe", "--password-stdin", "--json"];
    let changed = stage.types("another horse\n", &change)?.ok()?.json()?;
    ensure!(changed["sessions_ended"].as_u64() > Some(0), "logins without a drive: {changed}");
    ensure!(stage.log_in("zoe", "correct horse", &[])?.code == Some(4));
    ensure!(stage.log_in("zoe", "another horse", &[])?.code == Some(0));
    let would = stage.types("", &["user", "remove", "zoe", "--dry-run", "--json"])?.ok()?.json()?;
    ensure!(would["dry_run"] == true, "{would}");
    stage.types("", &["user", "remove", "zoe"])?.ok()?;
    ensure!(stage.types("", &["user", "remove", "zoe", "--json"])?.code == Some(3));
    ensure!(stage.log_in("zoe", "another horse", &[])?.code == Some(4));
    let sessions = stage.types("", &["session", "list", "--json"])?.ok()?.json()?;
    let logins = sessions.as_array().context("a list")?;
    ensure!(logins.iter().all(|login| login["mounted"] == false), "{sessions}");
    let zoes = logins.iter().filter(|login| login["user"] == "zoe");
    ensure!(zoes.clone().count() > 0 && zoes.clone().all(|login| login["revoked"].is_string()));
    for (which, code) in [(&["00"][..], 2), (&["0123456789abcdef"], 3), (&["--user", "zoe"], 3)] {
        let args = [&["session", "revoke", "--json"], which].concat();
        let refused = stage.types("", &args)?;
        ensure!(refused.code == Some(code) && refused.failure()?.1.is_some(), "{refused:?}");
    }

    let log = fs::read_to_string(state.join("replica/audit.log"))?;
    for told in ["user-add", "user-password", "user-remove", "\"login\""] {
        ensure!(log.contains(told), "{told} is not in the audit log: {log}");
    }
    ensure!(!log.contains("horse"), "a password is in the audit log");
    for file in ["audit.log", "auth.redb", "demo-password"] {
        ensure!(mode(&state.join("replica").join(file))? == 0o600, "{file}");
    }
    stage.demo.interrupt()
}

/// Who had versions removed, or a point ended, is asked for when they are missed.
#[test]
fn what_is_said_of_retention_and_points_is_in_the_audit_log() -> Result<()> {
    let stage = Stage::new("audit")?;
    let state = PathBuf::from(stage.told("state")?);
    let admin = |args: &[&str]| stage.types("", args);
    wait_for(SOON, "a first version", || {
        Ok((admin(&["versions", "demo:a.txt"])?.code == Some(0)).then_some(()))
    })?;
    admin(&["retention", "set", "demo", "last=20"])?.ok()?;
    ensure!(admin(&["retention", "set", "demo", "last=2"])?.code == Some(4));
    let plan = admin(&["retention", "plan", "demo", "--json"])?.ok()?.json()?;
    let plan = plan["plan"].as_str().context("a plan")?;
    admin(&["retention", "apply", "demo", "--plan", plan])?.ok()?;
    ensure!(admin(&["retention", "apply", "demo", "--plan", "0"])?.code == Some(4));
    ensure!(admin(&["retention", "undo", "demo", "--yes"])?.code == Some(4));
    admin(&["point", "create", "demo", "mine", "--hold=3d"])?.ok()?;
    ensure!(admin(&["point", "create", "demo", "mine"])?.code == Some(4));
    admin(&["point", "hold", "demo", "mine", "--here"])?.ok()?;
    admin(&["point", "release", "demo", "mine", "--here"])?.ok()?;
    admin(&["point", "remove", "demo", "mine", "--here", "--yes"])?.ok()?;
    admin(&["point", "every", "demo", "1h", "--keep", "24"])?.ok()?;

    let log = fs::read_to_string(state.join("replica/audit.log"))?;
    let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let has = |event: &str, ok: bool, asked: &str, result: &str| {
        let is_it = |line: &&Value| {
            let part = |key: &str, text: &str| {
                line[key].as_str().is_some_and(|said| said.contains(text)) || text.is_empty()
            };
            line["event"] == event
                && line["ok"] == ok
                && line["set"] == "demo"
                && line["address"] == "local"
                && line["user"].is_string()
                && part("asked", asked)
                && part(if ok { "result" } else { "reason" }, result)
        };
        let count = lines.iter().filter(is_it).count();
        ensure!(count == 1, "{count} of {event} {ok} {asked} {result}: {log}");
        Ok(())
    };
    has("retention-set", true, "last=20", "last=20")?;
    has("retention-set", false, "last=2", "would keep less")?;
    has("retention-apply", true, plan, "0 removed")?;
    has("retention-apply", false, "--plan 0", "no plan")?;
    has("retention-undo", false, "", "can come back")?;
    has("point-create", true, "mine --hold=3d", "v1.1.")?;
    has("point-create", false, "mine", "already")?;
    has("point-hold", true, "mine --here", "v1.1.")?;
    has("point-release", true, "mine --here", "v1.1.")?;
    has("point-remove", true, "mine --here", "v1.1.")?;
    has("point-every", true, "1h --keep 24", "")?;
    stage.demo.interrupt()
}

/// Lists what was granted to machines: the demo's own login is not meant.
fn hosts(stage: &Stage) -> Result<Value> {
    let mut sessions = stage.types("", &["session", "list", "--json"])?.ok()?.json()?;
    let all = sessions.as_array_mut().context("a list")?;
    all.retain(|session| session.get("host").is_some());
    Ok(sessions)
}

/// Machines are trusted only by somebody who was told what it means, and not for longer than wanted.
#[test]
fn machines_are_trusted_by_name_and_until_revoked() -> Result<()> {
    let stage = Stage::new("hosts")?;
    let grant = ["session", "grant", "10.0.0.0/24", "--set", "demo", "--json"];
    let asked = stage.types("", &grant)?;
    ensure!(asked.code == Some(4), "there is nobody to ask: {asked:?}");
    let (told, hint) = asked.failure()?;
    ensure!(told.contains("10.0.0.0/24 are believed who they say they are"), "{told}");
    ensure!(hint.is_some_and(|hint| hint.contains("--yes")));
    let list = || hosts(&stage);
    ensure!(list()? == Value::Array(Vec::new()), "nothing was granted");

    let yes = [&grant[..], &["--yes"]].concat();
    let granted = stage.types("", &yes)?.ok()?.json()?;
    let id = granted["id"].as_str().context("it has a number")?;
    ensure!(granted["host"] == "10.0.0.0/24" && granted["may_write"] == false, "{granted}");
    ensure!(list()? == Value::Array(vec![granted.clone()]), "{}", list()?);
    let text = stage.types("", &["session", "list"])?.ok()?;
    let row = lines(&text).into_iter().find(|line| line.contains(id)).context("it is listed")?;
    ensure!(row.contains("host 10.0.0.0/24, read"), "{row}");
    let again = stage.types("", &[&yes[..], &["--write"]].concat())?;
    ensure!(again.code == Some(4), "{again:?}");
    ensure!(again.failure()?.1.is_some_and(|hint| hint.contains("revoke")), "{again:?}");
    for (range, set, code) in
        [("10.0.0.7", "other", 3), ("10.0.0.7/24", "demo", 2), ("0.0.0.0/0", "demo", 2)]
    {
        let args = ["session", "grant", range, "--set", set, "--yes", "--json"];
        ensure!(stage.types("", &args)?.code == Some(code), "{range} {set}");
    }

    let Stage { scratch, demo, home } = stage;
    let state = demo.path("state")?;
    demo.interrupt()?;
    let demo = Demo::start(&scratch, Some(&scratch.join("source")))?;
    let stage = Stage { scratch, demo, home };
    let list = || hosts(&stage);
    ensure!(list()? == Value::Array(vec![granted.clone()]), "it outlives a restart: {}", list()?);
    let would = ["session", "revoke", id, "--dry-run", "--json"];
    ensure!(stage.types("", &would)?.ok()?.json()?["sessions_ended"] == 1);
    stage.types("", &["session", "revoke", id])?.ok()?;
    ensure!(list()? == Value::Array(Vec::new()), "{}", list()?);
    ensure!(stage.types("", &would)?.code == Some(3), "it is gone");
    let log = fs::read_to_string(state.join("replica/audit.log"))?;
    ensure!(log.contains("session-grant") && log.contains("\"revoke\""), "{log}");
    stage.demo.interrupt()
}

/// A port that another program has is a problem that is told, and not the end of the station.
#[test]
fn a_door_whose_port_is_taken_opens_when_it_is_free() -> Result<()> {
    let scratch = Scratch::new("taken")?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let mut station = Station::new(&scratch, "office", Vec::new())?;
    station.init(&free_address()?.to_string())?;
    let config = fs::read_to_string(station.config())?;
    let (before, _) = config.split_once("[doors]").context("the config has doors")?;
    let doors = format!("[doors]\nnfs = \"off\"\nhttps = \"{}\"\n", taken.local_addr()?);
    fs::write(station.config(), format!("{before}{doors}"))?;
    station.start()?;
    let problem = || -> Result<bool> {
        Ok(station.status()?["problems"].to_string().contains("users cannot log in"))
    };
    wait_for(SOON, "the problem is told", || Ok(problem()?.then_some(())))?;
    ensure!(station.status()?["https"].is_null(), "a door is shown that is shut");
    let checked = station.call(["status", "--check", "--json"])?;
    ensure!(checked.code == Some(1), "{checked:?}");
    ensure!(checked.failure()?.0.contains("users cannot log in"), "{checked:?}");
    let log = || fs::read_to_string(scratch.join("office.log"));
    let told = |what: &str| -> Result<Option<()>> {
        let lines = log()?.lines().filter(|line| line.contains(what)).count();
        ensure!(lines <= 1, "told {lines} times: {what}");
        Ok((lines == 1).then_some(()))
    };
    wait_for(SOON, "the log says that it began", || told("a person must act"))?;
    let at = taken.local_addr()?;
    drop(taken);
    wait_for(SOON, "the door opens", || Ok((!problem()?).then_some(())))?;
    ensure!(station.status()?["https"] == at.to_string(), "{}", station.status()?);
    wait_for(SOON, "the log says that it ended", || told("alarm ended"))?;
    told("a person must act")?.context("it is told once")?;
    station.call(["status", "--check"])?.ok()?;
    wait_for(SOON, "the door answers", || Ok(TcpStream::connect(at).ok()))?;
    station.stop()
}
