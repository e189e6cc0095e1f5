//! `keepshare user`.

use keepshare_auth::UserName;
use keepshare_control::{
    Failure, Outcome,
    accounts::{Ended, UserInfo},
    client::Client,
    questions::{Passwd, Secret, UserAdd, UserList, UserPassword, UserRemove},
};
use keepshare_host::accounts::{Account, Answer, MachineAccounts};

use crate::{cli, output::Screen, output::Table, password};

/// Adds a user.
pub(crate) fn add(station: &Client, options: cli::UserAdd, screen: &Screen) -> Outcome<()> {
    let cli::UserAdd { name, uid, gid, groups, read_only, sets, password_stdin } = options;
    let numbers = match (uid, gid) {
        (Some(uid), Some(gid)) => Account { uid, gid, groups },
        _ => account(&name)?,
    };
    let user = UserInfo {
        name: name.to_string(),
        uid: numbers.uid,
        gid: numbers.gid,
        groups: numbers.groups,
        may_write: !read_only,
        sets: (!sets.is_empty()).then_some(sets),
    };
    let password = Secret(password::new_password(name.as_str(), password_stdin)?);
    let request = UserAdd { user, password };
    let added: UserInfo = station.ask_one(&request)?;
    screen.value(&added, added_text)
}

/// Says who may do what: a slip in an option is seen here, or by the wrong person.
fn added_text(user: &UserInfo) -> String {
    let UserInfo { name, uid, gid, groups, may_write, sets } = user;
    let numbers =
        |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let groups = match groups.as_slice() {
        [] => String::new(),
        groups => format!(", groups {}", numbers(groups)),
    };
    let may = match may_write {
        true => "see files and versions and bring versions back",
        false => "see files and versions and change nothing",
    };
    let sets = match sets.as_deref() {
        None => "all sets of this station, also those to come".to_owned(),
        Some([one]) => format!("the set {one}"),
        Some(sets) => {
            let names: Vec<_> = sets.iter().map(ToString::to_string).collect();
            format!("the sets {}", names.join(", "))
        }
    };
    format!(
        "User {name} (uid {uid}, gid {gid}{groups}) may {may}, in {sets}.\n\
         They log in with keepshare login {name}@STATION\n"
    )
}

/// Returns the account that has a user's name.
fn account(name: &UserName) -> Outcome<Account> {
    let failure = match MachineAccounts::of_this_machine().patient().account(name.as_str()) {
        Answer::Is(account) => return Ok(account),
        Answer::Nobody => {
            Failure::usage(format!("this machine has no account '{name}' to take numbers from"))
        }
        Answer::NotNow => Failure::unavailable(format!(
            "the name services of this machine do not say now whether there is an account '{name}'"
        )),
    };
    Err(failure
        .hint(format!("say which files are theirs: keepshare user add {name} --uid N --gid N")))
}

/// Lists the users.
pub(crate) fn list(station: &Client, screen: &Screen) -> Outcome<()> {
    let users: Vec<UserInfo> = station.ask_all(&UserList {})?;
    screen.value(&users, |users| {
        if users.is_empty() {
            return "Nobody can log in yet; keepshare user add NAME lets somebody.\n".to_owned();
        }
        let mut table = Table::new(&["USER", ">UID", ">GID", "GROUPS", "MAY", "SETS"]);
        for user in users {
            let numbers: Vec<_> = user.groups.iter().map(ToString::to_string).collect();
            let sets = user.sets.as_ref().map(|sets| sets.iter().map(ToString::to_string));
            let sets =
                sets.map_or_else(|| "all".to_owned(), |sets| sets.collect::<Vec<_>>().join(","));
            table.row(vec![
                user.name.clone(),
                user.uid.to_string(),
                user.gid.to_string(),
                if numbers.is_empty() { "–".to_owned() } else { numbers.join(",") },
                if user.may_write { "write" } else { "read" }.to_owned(),
                sets,
            ]);
        }
        table.render(0)
    })
}

/// Removes a user.
pub(crate) fn remove(
    station: &Client,
    name: &UserName,
    dry_run: bool,
    screen: &Screen,
) -> Outcome<()> {
    let request = UserRemove { name: name.to_string(), dry_run };
    let ended: Ended = station.ask_one(&request)?;
    screen.value(&ended, |ended| {
        let is = if ended.dry_run { "would be" } else { "is" };
        format!("User {name} {is} removed; {}\n", sessions_text(ended))
    })
}

/// Changes a user's password.
pub(crate) fn password(
    station: &Client,
    name: &UserName,
    password_stdin: bool,
    screen: &Screen,
) -> Outcome<()> {
    let password = Secret(password::new_password(name.as_str(), password_stdin)?);
    let request = UserPassword { name: name.to_string(), password };
    let ended: Ended = station.ask_one(&request)?;
    screen.value(&ended, |ended| {
        format!("The password of {name} is changed; {}\n", sessions_text(ended))
    })
}

/// Changes the password of whoever logged in.
pub(crate) fn passwd(station: &Client, password_stdin: bool, screen: &Screen) -> Outcome<()> {
    let (old, new) = password::changed_password(password_stdin)?;
    let ended = station.ask_one(&Passwd { old: Secret(old), new: Secret(new) })?;
    screen.value(&ended, |ended| {
        format!("Your password is changed; {} Log in again.\n", sessions_text(ended))
    })
}

/// Says how many sessions ended, or would.
pub(crate) fn sessions_text(ended: &Ended) -> String {
    match (ended.sessions_ended, ended.dry_run) {
        (0, _) => "no drive is mounted.".to_owned(),
        (1, false) => "1 session has ended.".to_owned(),
        (n, false) => format!("{n} sessions have ended."),
        (1, true) => "1 session would end.".to_owned(),
        (n, true) => format!("{n} sessions would end."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confirmation_names_sets_and_rights() {
        let anna = UserInfo {
            name: "anna".into(),
            uid: 1000,
            gid: 100,
            groups: vec![4, 50],
            may_write: true,
            sets: None,
        };
        let text = added_text(&anna);
        assert!(
            text.contains("gid 100, groups 4, 50) may see files and versions and bring"),
            "{text}"
        );
        assert!(text.contains("in all sets of this station, also those to come."), "{text}");
        let sets = ["mail", "projects"].map(|set| set.parse().unwrap());
        let ben = UserInfo { may_write: false, groups: vec![], sets: Some(sets.to_vec()), ..anna };
        let text = added_text(&ben);
        assert!(text.contains("gid 100) may see files and versions and change nothing, in the sets mail, projects."), "{text}");
    }
}
