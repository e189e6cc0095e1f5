//! What can be typed. Every command here is real: one that is not built does not exist. What they do is in `commands`.

pub(crate) mod alarm;
pub(crate) mod audit;
pub(crate) mod diff;
mod examples;
pub(crate) mod find;
pub(crate) mod point;
pub(crate) mod retention;
pub(crate) mod rollback;
pub(crate) mod scrub;
pub(crate) mod session;
pub(crate) mod station;

use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use keepshare_auth::UserName;
use keepshare_base::{SetName, StationName};

use self::examples::*;

/// A network file share that keeps every version.
#[derive(Debug, Parser)]
#[command(name = "keepshare", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Write JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The Unix socket of the station to talk to [env: KEEPSHARE_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The station's config [default: /etc/keepshare/station.toml, or that of the user] [env: KEEPSHARE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ask that station, as a user who logged in there before [default: the last login, where this machine has no station
    /// for you] [env: KEEPSHARE_AS]
    #[arg(long = "as", global = true, value_name = "USER@STATION")]
    pub(crate) login: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: a master and a replica on this machine, or one station that is both
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Demo),
    /// Make this machine the first station of a new cluster
    #[command(after_help = INIT_EXAMPLES)]
    Init(NewStation),
    /// Invite further stations
    #[command(subcommand)]
    Token(Token),
    /// Make this machine a further station of a cluster
    #[command(after_help = JOIN_EXAMPLES)]
    Join(Join),
    /// Run the station until it is told to stop
    Run,
    /// Show stations, sets, lag and problems
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Say where other stations are, back this one up, bring it back
    #[command(subcommand)]
    Station(station::Station),
    /// Say what is replicated, and where to
    #[command(subcommand)]
    Set(Set),
    /// Say who may log in
    #[command(subcommand)]
    User(User),
    /// Log in at a station: opens versions, show, diff, find and restore for you there, and gets what mounting the drive takes
    #[command(after_help = LOGIN_EXAMPLES)]
    Login(Login),
    /// End a login and forget its secret: what is mounted with it ends, too
    Logout {
        /// Which [default: the last one]
        #[arg(value_name = "USER@STATION")]
        who: Option<String>,
    },
    /// Change your own password, at the station where you logged in
    Passwd {
        /// Read the present and the new password from standard input, a line each
        #[arg(long)]
        password_stdin: bool,
    },
    /// Log in and mount the drive; without root, print the command that does
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(Mount),
    /// Take a mounted drive away
    Unmount(Unmount),
    /// See and end the sessions of mounted drives, and trust machines to say who uses them
    #[command(subcommand)]
    Session(session::Session),
    /// List the versions of a file or folder, newest first
    #[command(after_help = VERSIONS_EXAMPLES)]
    Versions(Versions),
    /// Write a file as it was to standard output; list a folder as it was
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Compare two states of a file or a folder, or two of them
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(diff::Diff),
    /// Bring back a file or a folder as it was
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
    /// Bring a folder back in place as it was, with a preview and an undo
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(rollback::Rollback),
    /// Bring back what was deleted in a folder
    #[command(after_help = UNDELETE_EXAMPLES)]
    Undelete(rollback::Undelete),
    /// Find files and folders by name, deleted ones too
    #[command(after_help = FIND_EXAMPLES)]
    Find(find::Find),
    /// Check everything the station keeps against its checksums, and the live trees against it
    #[command(after_help = FSCK_EXAMPLES)]
    Fsck(Fsck),
    /// Look for damage in what is kept, slowly and always
    #[command(subcommand, after_help = SCRUB_EXAMPLES)]
    Scrub(scrub::Scrub),
    /// Say which versions a set keeps here, and for how long
    #[command(subcommand, after_help = RETENTION_EXAMPLES)]
    Retention(retention::Retention),
    /// Name moments of a set: each is a whole state that stays
    #[command(subcommand, after_help = POINT_EXAMPLES)]
    Point(point::Point),
    /// See, and close, alarms of files that are encrypted or spoiled in great numbers
    #[command(subcommand, after_help = ALARM_EXAMPLES)]
    Alarm(alarm::Alarm),
    /// See who did what, and check that nobody changed the record
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Audit(audit::Audit),
    /// Write completions for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// One station that keeps every version of its own folder, as a NAS does
    #[arg(long)]
    pub(crate) single: bool,
    /// Replicate this folder [default: a small sample with some history]
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// Keep everything here, and go on there next time [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// What `init` and `join` write into the config.
#[derive(Args, Debug)]
pub(crate) struct NewStation {
    /// What this station is called: a-z, 0-9, '-' and '_'
    #[arg(long)]
    pub(crate) name: StationName,
    /// Where it listens for other stations [default: every address, port 7846]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// What other stations dial to reach it, if not the address they see
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Where it keeps everything [default: /var/lib/keepshare, or the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token with which one station can join, once, within 30 minutes
    #[command(after_help = TOKEN_EXAMPLES)]
    Create {
        /// What the station will be
        #[arg(long, default_value = "replica", value_parser = ["replica"])]
        role: String,
    },
    /// List the tokens that can still be used; their secrets are not kept
    List,
}

#[derive(Args, Debug)]
pub(crate) struct Join {
    /// The first station's address, HOST or HOST:PORT
    #[arg(value_name = "ADDRESS")]
    pub(crate) primary: String,
    /// The token that `keepshare token create` gave
    #[arg(long, env = "KEEPSHARE_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) station: NewStation,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Go on showing it until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// For cron and monitoring: fail with exit code 1 where a person must act, and say why
    #[arg(long, conflicts_with = "watch")]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Set {
    /// Keep every version of a folder of this station, here or on other stations
    #[command(after_help = SET_EXAMPLES)]
    Add {
        /// What the set is called: a-z, 0-9, '-' and '_'
        name: SetName,
        /// The folder
        #[arg(long, value_name = "DIR")]
        source: PathBuf,
        /// A station that keeps it; may be given several times, this one too [default: this one]
        #[arg(long = "to", value_name = "STATION")]
        to: Vec<StationName>,
    },
    /// List the sets of this station
    List,
    /// Show one set
    Show {
        /// Which
        name: SetName,
    },
    /// Compare a set of this station with what other stations have, and send what differs
    #[command(after_help = SET_MIRROR_EXAMPLES)]
    Mirror {
        /// Which
        name: SetName,
        /// Only this station; all that receive it without
        #[arg(long, value_name = "STATION")]
        to: Option<StationName>,
        /// Bring stations that are ahead of this one to what is here; what they have stays in their history
        #[arg(long, conflicts_with = "take_over")]
        new_epoch: bool,
        /// Take the set back from another master that took it on
        #[arg(long, conflicts_with = "to")]
        take_over: bool,
        /// Take the folder that is at the source's path now, after a disk was replaced or a backup brought back
        #[arg(long, conflicts_with_all = ["to", "new_epoch", "take_over"])]
        new_source: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Let somebody log in; asks for a password
    #[command(after_help = USER_EXAMPLES)]
    Add(UserAdd),
    /// List who may log in
    List,
    /// Remove a user and end all their sessions
    Remove {
        /// Who
        name: UserName,
        /// Only say what would end
        #[arg(long)]
        dry_run: bool,
    },
    /// Change a user's password and end all their sessions; asks for the new one
    Password {
        /// Whose
        name: UserName,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct UserAdd {
    /// What the user is called: a-z, 0-9, '.', '_' and '-', a letter first
    pub(crate) name: UserName,
    /// The number that owns the user's files [default: that of the account of this name here]
    #[arg(long, value_name = "N", requires = "gid")]
    pub(crate) uid: Option<u32>,
    /// The number of the first group [default: that of the account]
    #[arg(long, value_name = "N", requires = "uid")]
    pub(crate) gid: Option<u32>,
    /// The number of a further group; may be given several times [default: those of the account]
    #[arg(long = "group", value_name = "N", requires = "uid")]
    pub(crate) groups: Vec<u32>,
    /// The user sees files and versions and changes none
    #[arg(long)]
    pub(crate) read_only: bool,
    /// A set that the user may mount; may be given several times [default: all, also those to come]
    #[arg(long = "set", value_name = "SET")]
    pub(crate) sets: Vec<SetName>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Login {
    #[command(flatten)]
    pub(crate) login: LoginOptions,
    /// Mount the drive there at once, as keepshare mount does
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) mount: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct LoginOptions {
    /// The user, and the station: HOST or HOST:PORT; without one, the station of this machine
    #[arg(value_name = "USER[@STATION]")]
    pub(crate) who: String,
    /// Which set to mount; may be left out where there is only one, and where it is only to log in
    #[arg(long)]
    pub(crate) set: Option<SetName>,
    /// The one address from which the drive will be used [default: this machine's, as the station sees it]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,
    /// Let all users of that machine use the drive
    #[arg(long, conflicts_with = "uid")]
    pub(crate) shared: bool,
    /// Which user of that machine may use the drive [default: you]
    #[arg(long, value_name = "N")]
    pub(crate) uid: Option<u32>,
    /// Take the drive's calls from ports above 1023 too, which any user of that machine may have: for routers and containers
    /// that change ports
    #[arg(long, conflicts_with = "shared")]
    pub(crate) any_port: bool,
    /// Take a drive that is mounted along to this address instead; needs no password
    #[arg(long, conflicts_with_all = ["shared", "uid", "any_port", "password_stdin"])]
    pub(crate) resume: bool,
    /// The CA of the station, as keepshare status shows it there
    #[arg(long, value_name = "PIN")]
    pub(crate) ca: Option<keepshare_identity::CaPin>,
    /// Trust a station that was not seen before without asking
    #[arg(long, conflicts_with = "ca")]
    pub(crate) accept_new: bool,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Versions {
    /// SET:path, or a local path in a source or a live tree
    #[arg(value_name = "PATH")]
    pub(crate) path: OsString,
    /// List at most so many
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// SET:path@TIME, or a local path in a source or a live tree with @TIME; without a time, as it is now
    #[arg(value_name = "PATH[@TIME]")]
    pub(crate) path: OsString,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// SET:path@TIME, or a local path in a source or a live tree with @TIME
    #[arg(value_name = "PATH@TIME")]
    pub(crate) path: OsString,
    /// Write it into this folder instead of its place in the set
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Replace what is in the way in the folder
    #[arg(long, requires = "to")]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Fsck {
    /// Check only this set
    #[arg(value_name = "SET")]
    pub(crate) set: Option<SetName>,
    /// Put times of arrival right that a wrong clock of this station left, before the check
    #[arg(long, requires = "set")]
    pub(crate) repair_clock: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Mount {
    #[command(flatten)]
    pub(crate) login: LoginOptions,
    /// Where: an empty folder, made where there is none
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Unmount {
    /// Where the drive is mounted
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Numbers without their group, or two kinds of sharing, are mistakes that must not pass.
    #[test]
    fn what_belongs_together_is_asked_together() {
        for wrong in [
            &["user", "add", "anna", "--uid", "5"][..],
            &["user", "add", "anna", "--group", "5"],
            &["user", "add", "Anna"],
            &["login", "anna@a", "--shared", "--uid", "5"],
            &["login", "anna@a", "--address", "store.example"],
            &["login", "anna@a", "--ca", "12"],
            &["session", "revoke"],
            &["session", "revoke", "12", "--user", "anna"],
        ] {
            let parsed = Cli::try_parse_from(["keepshare"].iter().chain(wrong));
            assert!(parsed.is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn global_flags_may_come_last() {
        let cli = Cli::parse_from(["keepshare", "versions", "a:b", "--json", "--socket", "/x"]);
        assert!(cli.global.json);
        assert_eq!(cli.global.socket, Some(PathBuf::from("/x")));
    }
}
