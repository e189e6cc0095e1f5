//! Asks for passwords: on the terminal without showing them, or on standard input.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use keepshare_auth::PASSWORD_BYTES_MAX;
use keepshare_control::{Code, Failure, Outcome};

/// Reads a password that will be a user's.
pub(crate) fn new_password(user: &str, from_stdin: bool) -> Outcome<String> {
    if from_stdin {
        return read_piped();
    }
    let first = ask(&format!("New password for {user}: "))?;
    if ask("The same again: ")? != first {
        return Err(Failure::usage("the two are not the same").hint("try again"));
    }
    Ok(first)
}

/// Reads the password that a user has.
pub(crate) fn password(user: &str, from_stdin: bool) -> Outcome<String> {
    if from_stdin { read_piped() } else { ask(&format!("Password for {user}: ")) }
}

/// Reads the password that whoever types has, and the one that comes in its place.
pub(crate) fn changed_password(from_stdin: bool) -> Outcome<(String, String)> {
    if from_stdin {
        let mut lines = read_lines()?.into_iter();
        return match (lines.next(), lines.next()) {
            (Some(old), Some(new)) => Ok((old, new)),
            _ => Err(Failure::usage("two lines are needed: the present password, and the new one")),
        };
    }
    Ok((ask("Present password: ")?, new_password("you", false)?))
}

/// Asks a question that is answered with yes or no.
pub(crate) fn confirm(question: &str) -> Outcome<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    prompt(&format!("{question} [yes/no] "))?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim(), "yes" | "y"))
}

/// Reads the first line of standard input.
fn read_piped() -> Outcome<String> {
    Ok(read_lines()?.into_iter().next().unwrap_or_default())
}

/// Reads the lines of standard input, as many as two passwords can be.
fn read_lines() -> Outcome<Vec<String>> {
    let mut bytes = Vec::new();
    let limit = 2 * (PASSWORD_BYTES_MAX as u64 + 2);
    io::stdin().take(limit).read_to_end(&mut bytes).context("cannot read standard input")?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the password is not text"))?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

fn ask(question: &str) -> Outcome<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password on")
            .hint("--password-stdin reads it from standard input"));
    }
    prompt(question)?;
    let silent = Silent::begin().context("cannot keep the terminal from showing the password")?;
    let typed = read_typed(stdin.lock());
    drop(silent);
    prompt("\n")?;
    typed
}

/// Reads what is typed, byte by byte, up to the end of the line.
fn read_typed(mut from: impl Read) -> Outcome<String> {
    let mut typed = Vec::new();
    loop {
        let mut byte = [0];
        let read = from.read(&mut byte).context("cannot read from the terminal")?;
        match byte[0] {
            _ if read == 0 => break,
            b'\n' | b'\r' | END => break,
            INTERRUPT => return Err(Failure::new(Code::Failed, "interrupted")),
            KILL => typed.clear(),
            BACKSPACE | DELETE => {
                // The bytes that continue a letter go with its first.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if typed.len() <= PASSWORD_BYTES_MAX => typed.push(byte),
            _ => {}
        }
    }
    String::from_utf8(typed).map_err(|_| Failure::usage("the password is not text"))
}

fn prompt(text: &str) -> Outcome<()> {
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes()).and_then(|()| err.flush()).context("cannot ask")?;
    Ok(())
}

/// A terminal that shows nothing and sends no signals; as it was when dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut silent = before.clone();
        // Without signals, because one would end us with the terminal left silent.
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Nobody is left to tell where this fails.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Control keys, as a terminal sends them.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_corrected() {
        for (typed, expected) in [
            (&b"secret\nmore"[..], "secret"),
            (b"secres\x7ft\r", "secret"),
            ("sä\x7fecret\n".as_bytes(), "secret"),
            (b"\x7f\x7fa", "a"),
            (b"wrong\x15right\x04", "right"),
        ] {
            assert_eq!(read_typed(typed).unwrap(), expected);
        }
        assert!(read_typed(&b"secret\x03"[..]).is_err(), "interrupted");
        assert!(read_typed(&[0xff, b'\n'][..]).is_err());
        let long = vec![b'x'; 10_000];
        assert_eq!(read_typed(long.as_slice()).unwrap().len(), PASSWORD_BYTES_MAX + 1);
    }
}
