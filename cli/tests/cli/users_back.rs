//! Folders that users roll back from their desks: with their own rights alone, and with nothing told of what they may not list.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Demo, Reply, Scratch, wait_for};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(120);

const ANNA: u32 = 4001;
const BOB: u32 = 4002;

const PASSWORD: &str = "correct horse";

/// A demo with two users, each with a machine on which no station runs.
struct Office {
    scratch: Scratch,
    demo: Demo,
    source: PathBuf,
}

impl Office {
    /// Starts one whose source has a folder in which everybody may write.
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let source = scratch.make_dir("source")?;
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755))?;
        fs::create_dir(source.join("shared"))?;
        fs::set_permissions(source.join("shared"), fs::Permissions::from_mode(0o777))?;
        let demo = Demo::start(&scratch, Some(&source))?;
        let office = Self { scratch, demo, source };
        for (user, number) in [("anna", ANNA), ("bob", BOB)] {
            let number = number.to_string();
            let socket = office.demo.path("socket")?;
            let socket = socket.to_string_lossy();
            let add = ["user", "add", user, "--uid", &number, "--gid", &number];
            let options = ["--password-stdin", "--json", "--socket", &socket];
            office.types(user, &format!("{PASSWORD}\n"), &[&add[..], &options].concat())?.ok()?;
            office.log_in(user)?;
        }
        Ok(office)
    }

    fn log_in(&self, user: &str) -> Result<()> {
        let status = self.demo.call(["status", "--json"])?.ok()?.json()?;
        let ca = status["stations"][0]["ca"].as_str().context("status shows the CA")?.to_owned();
        let who = self.who(user)?;
        let args = ["login", &who, "--password-stdin", "--json", "--ca", &ca];
        self.types(user, &format!("{PASSWORD}\n"), &args)?.ok().map(drop)
    }

    fn who(&self, user: &str) -> Result<String> {
        let https = self.demo.ready["https"].as_str().context("an address")?;
        Ok(format!("{user}@{}", https.strip_prefix("https://").context("it begins so")?))
    }

    fn command(&self, user: &str, input: &str, args: &[&str]) -> Result<Command> {
        let home = self.scratch.make_dir(&format!("home-{user}"))?;
        let typed = home.join("typed");
        fs::write(&typed, input)?;
        let mut command = Command::new(self.scratch.program()?);
        command.args(args).env("HOME", &home).current_dir("/");
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "SUDO_UID", "KEEPSHARE_CONFIG"] {
            command.env_remove(name);
        }
        command.env_remove("KEEPSHARE_SOCKET");
        if args.first() != Some(&"login") && !args.contains(&"--socket") {
            command.env("KEEPSHARE_AS", self.who(user)?);
        }
        command.stdin(Stdio::from(File::open(&typed)?));
        Ok(command)
    }

    fn types(&self, user: &str, input: &str, args: &[&str]) -> Result<Reply> {
        Reply::of(&mut self.command(user, input, args)?)
    }

    /// What a user is told on a question.
    fn told(&self, user: &str, args: &[&str]) -> Result<Value> {
        self.types(user, "", &[args, &["--json"]].concat())?.json()
    }

    fn admin(&self, args: &[&str]) -> Result<Value> {
        self.demo.call(args.iter().copied().chain(["--json"]))?.json()
    }

    fn point(&self, name: &str) -> Result<()> {
        self.admin(&["point", "create", "demo", name]).map(drop)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.source.join(path)
    }

    /// Writes a file as somebody.
    fn write(&self, owner: u32, mode: u32, path: &str, text: &str) -> Result<()> {
        let path = self.file(path);
        fs::write(&path, text)?;
        give(owner, mode, &path)
    }
}

fn give(owner: u32, mode: u32, path: &Path) -> Result<()> {
    chown(path, Some(owner), Some(owner))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// A folder in which two people work: one rolls it back, from a desk, and gets their own work back; what is the other's stays and is
/// told, and what is closed is not even named. That can be taken back by who did it and by an admin, and by nobody else.
#[test]
fn a_user_rolls_back_what_is_theirs() -> Result<()> {
    let office = Office::new("users-back")?;
    fs::create_dir(office.file("shared/closed"))?;
    for (owner, mode, name) in [
        (ANNA, 0o644, "annas.txt"),
        (BOB, 0o640, "bobs.txt"),
        (ANNA, 0o666, "both.txt"),
        (BOB, 0o644, "deleted.txt"),
        (ANNA, 0o644, "closed/secret-a.txt"),
        (ANNA, 0o600, "secret-b.txt"),
    ] {
        office.write(owner, mode, &format!("shared/{name}"), "first")?;
    }
    give(ANNA, 0o700, &office.file("shared/closed"))?;
    office.point("then")?;
    let place = "demo:shared@point:then";
    let preview = ["rollback", place, "--dry-run"];
    let before = office.told("bob", &preview)?;
    ensure!(before["conflicts"] == serde_json::json!([]) && before["restored"] == 0, "{before}");

    for name in ["annas.txt", "bobs.txt", "both.txt", "closed/secret-a.txt", "secret-b.txt"] {
        fs::write(office.file(&format!("shared/{name}")), "encrypted")?;
    }
    fs::write(office.file("shared/closed/secret-c.txt"), "new")?;
    fs::remove_file(office.file("shared/deleted.txt"))?;
    office.write(BOB, 0o644, "shared/ransom.txt", "pay")?;
    office.point("since")?;

    let told = office.told("bob", &preview)?;
    let counts = ["restored", "brought_back", "removed", "renamed"].map(|key| &told[key]);
    ensure!(counts == [2, 1, 1, 0], "{told}");
    ensure!(told["unseen_left"] == true && !told.to_string().contains("secret"), "{told}");
    let conflicts = told["conflicts"].as_array().context("a list")?;
    ensure!(conflicts.len() == 1 && conflicts[0]["path"] == "shared/annas.txt", "{told}");
    let shown = office.types("bob", "", &preview)?.ok()?;
    let shown = String::from_utf8(shown.out)?;
    ensure!(shown.contains("may not see") && shown.contains("! shared/annas.txt"), "{shown}");

    let done = office.told("bob", &["rollback", place, "--yes"])?;
    ensure!(done["state"] == "done" && !done.to_string().contains("secret"), "{done}");
    for (name, wanted) in [
        ("annas.txt", "encrypted"),
        ("bobs.txt", "first"),
        ("both.txt", "first"),
        ("deleted.txt", "first"),
        ("closed/secret-a.txt", "encrypted"),
        ("secret-b.txt", "encrypted"),
    ] {
        let is = text(&office.file(&format!("shared/{name}")))?;
        ensure!(is == wanted, "{name}: {is}");
    }
    ensure!(!office.file("shared/ransom.txt").exists());
    ensure!(office.file("shared/closed/secret-c.txt").exists());
    let both = fs::metadata(office.file("shared/both.txt"))?;
    ensure!((both.uid(), both.mode() & 0o777) == (ANNA, 0o666), "it is anna's still");
    let versions = office.admin(&["versions", "demo:shared/bobs.txt"])?;
    ensure!(versions[0]["user"] == "bob", "{versions}");
    let id = done["rollback"].as_str().context("an id")?;

    // It is bob's, and nobody else's.
    ensure!(office.told("anna", &["rollback", "--list"])? == serde_json::json!([]));
    for what in ["--undo", "--stop"] {
        let refused =
            office.types("anna", "", &["rollback", what, id, "--set", "demo", "--json"])?;
        let unknown =
            office.types("anna", "", &["rollback", what, "00000000", "--set", "demo", "--json"])?;
        ensure!(refused.code == Some(3), "{refused:?}");
        ensure!(refused.err.replace(id, "00000000") == unknown.err, "{refused:?} {unknown:?}");
    }
    ensure!(text(&office.file("shared/bobs.txt"))? == "first");
    let own = office.told("bob", &["rollback", "--list"])?;
    ensure!(own.as_array().map(Vec::len) == Some(1) && own[0]["rollback"] == id, "{own}");
    let all = office.admin(&["rollback", "--list"])?;
    ensure!(all.as_array().map(Vec::len) == Some(1), "{all}");
    let audit = office.admin(&["audit", "show"])?;
    let lines = audit.as_array().context("lines")?;
    let has = |user: &str, result: &str| {
        lines.iter().any(|line| {
            let line = line.to_string();
            line.contains("rollback") && line.contains(user) && line.contains(result)
        })
    };
    ensure!(has("bob", &format!("{id} began")) && has("anna", "no roll-back"), "{audit}");

    let undone = office.told("bob", &["rollback", "--undo", id, "--set", "demo", "--yes"])?;
    ensure!(undone["state"] == "done" && !undone.to_string().contains("secret"), "{undone}");
    for (name, wanted) in
        [("bobs.txt", "encrypted"), ("both.txt", "encrypted"), ("ransom.txt", "pay")]
    {
        let is = text(&office.file(&format!("shared/{name}")))?;
        ensure!(is == wanted, "{name}: {is}");
    }
    ensure!(!office.file("shared/deleted.txt").exists(), "it was gone before");
    let own = fs::metadata(office.file("shared/bobs.txt"))?;
    ensure!((own.uid(), own.mode() & 0o777) == (BOB, 0o640), "{own:?}");

    // What was deleted comes back by itself, too.
    let told =
        office.told("bob", &["undelete", "demo:shared", "--since", "point:then", "--yes"])?;
    ensure!(told["brought_back"] == 1 && told["state"] == "done", "{told}");
    ensure!(text(&office.file("shared/deleted.txt"))? == "first");
    // An admin of the same machine does all of it.
    let done = office.admin(&["rollback", place, "--yes"])?;
    ensure!(done["restored"].as_u64() >= Some(4) && done.get("unseen_left").is_none(), "{done}");
    ensure!(text(&office.file("shared/closed/secret-a.txt"))? == "first");
    let id = done["rollback"].as_str().context("an id")?;
    let refused =
        office.types("bob", "", &["rollback", "--undo", id, "--set", "demo", "--json"])?;
    ensure!(refused.code == Some(3), "an admin's: {refused:?}");
    office.demo.interrupt()
}

/// Whoever is logged out has nothing done any more: what goes on ends where it is, and can be taken back by whoever logs in again.
#[test]
fn a_roll_back_ends_with_the_login() -> Result<()> {
    let office = Office::new("users-back-ends")?;
    let names: Vec<String> = (0..1500).map(|number| format!("shared/{number:04}")).collect();
    for name in &names {
        office.write(BOB, 0o644, name, "first")?;
    }
    office.point("then")?;
    for name in &names {
        fs::write(office.file(name), "changed since")?;
    }
    office.point("since")?;
    let args = ["rollback", "demo:shared@point:then", "--yes", "--json"];
    let mut order = office.command("bob", "", &args)?;
    let mut order = order.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let is_back = |name: &String| text(&office.file(name)).is_ok_and(|text| text == "first");
    wait_for(SOON, "something to come back", || {
        Ok(names.iter().take(20).all(is_back).then_some(()))
    })?;
    office.admin(&["session", "revoke", "--user", "bob"])?;
    let all = wait_for(SOON, "it to end", || {
        let all = office.admin(&["rollback", "--list"])?;
        Ok((all[0]["state"] == "stopped").then_some(all))
    })?;
    order.wait()?;
    let back = names.iter().filter(|name| is_back(name)).count();
    ensure!((20..names.len()).contains(&back), "{back} came back: {all}");
    ensure!(office.types("bob", "", &["rollback", "--list", "--json"])?.code == Some(4));
    office.log_in("bob")?;
    let id = all[0]["rollback"].as_str().context("an id")?;
    let undone = office.told("bob", &["rollback", "--undo", id, "--set", "demo", "--yes"])?;
    ensure!(undone["state"] == "done" && undone["restored"] == back, "{undone}");
    ensure!(!names.iter().any(is_back), "it is as it was before");
    office.demo.interrupt()
}

/// What a user ordered outlives the station: it goes on with that login when the station is there again.
#[test]
fn a_roll_back_of_a_user_goes_on_after_a_restart() -> Result<()> {
    let office = Office::new("users-back-again")?;
    let names: Vec<String> = (0..1500).map(|number| format!("shared/{number:04}")).collect();
    for name in &names {
        office.write(BOB, 0o644, name, "first")?;
    }
    office.write(ANNA, 0o644, "shared/annas", "first")?;
    office.point("then")?;
    for name in names.iter().map(String::as_str).chain(["shared/annas"]) {
        fs::write(office.file(name), "changed since")?;
    }
    office.point("since")?;
    let args = ["rollback", "demo:shared@point:then", "--yes", "--json"];
    let mut order = office.command("bob", "", &args)?;
    let mut order = order.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let is_back =
        |source: &Path, name: &String| text(&source.join(name)).is_ok_and(|text| text == "first");
    wait_for(SOON, "something to come back", || {
        Ok(names.iter().take(20).all(|name| is_back(&office.source, name)).then_some(()))
    })?;
    let Office { scratch, demo, source } = office;
    drop(demo);
    order.wait()?;
    ensure!(!names.iter().all(|name| is_back(&source, name)), "it was over before");
    let demo = Demo::start(&scratch, Some(&source))?;
    let office = Office { scratch, demo, source };
    let all = wait_for(SOON, "it to end", || {
        let all = office.admin(&["rollback", "--list"])?;
        Ok((all[0]["state"] != "going-on").then_some(all))
    })?;
    ensure!(all[0]["state"] == "done" && all[0]["restored"] == names.len(), "{all}");
    ensure!(names.iter().all(|name| is_back(&office.source, name)));
    ensure!(text(&office.file("shared/annas"))? == "changed since", "it is anna's");
    office.demo.interrupt()
}
