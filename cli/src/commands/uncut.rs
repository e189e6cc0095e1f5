//! What is said of content that is no version yet.

use keepshare_control::answers::{ShownEntry, Uncut};

use crate::output::Screen;

/// Returns the path of an entry, for people.
pub(super) fn shown(entry: &ShownEntry) -> String {
    let names: Vec<String> = entry.path.iter().map(ToString::to_string).collect();
    names.join("/")
}

/// Says which of these are no versions yet: what they hold may be half of what is on its way.
pub(super) fn tell(entries: &[(String, Option<Uncut>)], screen: &Screen) {
    let last = |uncut: &Uncut| match &uncut.last_version {
        Some(id) => format!("the last version is {id}"),
        None => "there is no older one".to_owned(),
    };
    let uncut = entries.iter().filter_map(|(path, uncut)| Some((path, last(uncut.as_ref()?))));
    let uncut: Vec<(&String, String)> = uncut.collect();
    match uncut.as_slice() {
        [] => {}
        [(path, last)] => screen.notes(
            &format!(
                "{path} is no version yet (it is being received, or its master is away); {last}"
            ),
            &[],
        ),
        several => {
            let count = several.len();
            let lines: Vec<String> =
                several.iter().map(|(path, last)| format!("{path}; {last}")).collect();
            screen.notes(
                &format!("{count} files are no versions yet (they are being received, or their master is away):"),
                &lines,
            );
        }
    }
}
