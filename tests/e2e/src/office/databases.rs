//! A database that a program has open all day, and other programs now and then.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use keepshare_support::tools;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// How long a connection waits for another's lock.
const LOCKED_MS: u64 = 60_000;

/// A database of SQLite and its programs.
#[derive(Debug)]
pub struct Database {
    /// Its name in the folder.
    pub name: &'static str,
    path: PathBuf,
    rows: AtomicU64,
}

impl Database {
    /// Makes a database in this journal mode: `delete` or `wal`.
    pub fn create(folder: &Path, name: &'static str, mode: &str) -> Result<Self> {
        let path = folder.join(name);
        let made = sql(
            &path,
            &format!(
                "PRAGMA journal_mode={mode};
                 CREATE TABLE entry (id INTEGER PRIMARY KEY, amount INTEGER, text BLOB);
                 CREATE INDEX by_amount ON entry (amount);"
            ),
        )?;
        ensure!(made.trim() == mode, "the journal mode is {made}");
        Ok(Self { name, path, rows: AtomicU64::new(0) })
    }

    /// Opens it for the day.
    pub fn open(&self, seed: u64) -> Result<Bookkeeper<'_>> {
        let mut child = shell(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start sqlite3")?;
        let input = child.stdin.take().context("a child has the input that was asked for")?;
        let output = child.stdout.take().context("a child has the output that was asked for")?;
        let output = BufReader::new(output);
        let random = StdRng::seed_from_u64(seed);
        Ok(Bookkeeper { database: self, child, input, output, random })
    }

    /// Returns how many rows were committed.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }

    /// Returns the files that it may consist of, as a program finds them that opens it for the first time: what is shared
    /// between running programs alone is not among them.
    pub fn files(&self) -> [String; 3] {
        ["", "-journal", "-wal"].map(|suffix| format!("{}{suffix}", self.name))
    }
}

/// Returns how many rows a copy of a database has; an error unless it is whole.
pub fn rows_of(copy: &Path) -> Result<u64> {
    let told = sql(copy, "PRAGMA integrity_check; SELECT count(*) FROM entry;")?;
    let rows = told.strip_prefix("ok\n").with_context(|| format!("it is not whole: {told}"))?;
    rows.trim().parse().with_context(|| format!("no count: {told}"))
}

/// Somebody who has the database open.
#[derive(Debug)]
pub struct Bookkeeper<'a> {
    database: &'a Database,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    random: StdRng,
}

impl Bookkeeper<'_> {
    /// Does a short transaction, by the open connection or by one for it alone, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        let rows = self.random.random_range(1..=20_u64);
        let mut text = String::from("BEGIN IMMEDIATE;\n");
        for _ in 0..rows {
            let (amount, bytes) =
                (self.random.random_range(0..1000), self.random.random_range(20..2000));
            text += &format!(
                "INSERT INTO entry (amount, text) VALUES ({amount}, randomblob({bytes}));\n"
            );
        }
        let amount = self.random.random_range(0..1000);
        text +=
            &format!("UPDATE entry SET amount = amount + 1 WHERE amount = {amount};\nCOMMIT;\n");
        if self.random.random_bool(0.5) {
            sql(&self.database.path, &text)?;
        } else {
            self.tell(&text)?;
        }
        self.database.rows.fetch_add(rows, Ordering::SeqCst);
        Ok(Duration::from_millis(self.random.random_range(200..700)))
    }

    /// Has the open connection do this, and returns when it has.
    fn tell(&mut self, statements: &str) -> Result<()> {
        const DONE: &str = "done";
        write!(self.input, "{statements}\nSELECT '{DONE}';\n")?;
        self.input.flush()?;
        let mut line = String::new();
        while line.trim() != DONE {
            line.clear();
            let count = self.output.read_line(&mut line)?;
            ensure!(count > 0, "the open connection of {} ended", self.database.name);
        }
        Ok(())
    }
}

impl Drop for Bookkeeper<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; nobody has more to say to it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sql(database: &Path, statements: &str) -> Result<String> {
    let output = tools::run(shell(database).arg(statements))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shell(database: &Path) -> Command {
    let mut command = Command::new("sqlite3");
    command.args(["-batch", "-bail", "-cmd"]).arg(format!(".timeout {LOCKED_MS}")).arg(database);
    command
}
