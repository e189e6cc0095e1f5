//! How a set is, in the word or phrase that `status` says first.
//!
//! `in-sync` is a promise: what is there equals what is here. Whatever is known to be missing takes the word away.

/// What a set is called that is equal everywhere.
pub const IN_SYNC: &str = "in-sync";

/// What a set is called on which changes are on their way.
pub const BEHIND: &str = "behind";

/// What the state of a set begins with that has everything but what a person must look at.
const INCOMPLETE: &str = "incomplete: ";

/// Returns the state of a set that has everything but for so many problems.
pub fn arrived(problems: u64) -> String {
    match problems {
        0 => IN_SYNC.to_owned(),
        1 => format!("{INCOMPLETE}1 problem"),
        _ => format!("{INCOMPLETE}{problems} problems"),
    }
}

/// Tells whether there is nothing to wait for: what is missing needs a person.
pub fn has_arrived(state: &str) -> bool {
    state == IN_SYNC || state.starts_with(INCOMPLETE)
}

/// Returns what of a state lasts as long as its cause: not counts, nor the reasons of the moment, which come after a colon.
pub fn lasting(text: &str) -> String {
    let text = text.strip_prefix("alarm: ").unwrap_or(text);
    let what = text.split_once(": ").map_or(text, |(what, _)| what);
    what.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Returns the word of a state, and what stands behind it.
pub fn split(state: &str) -> (&str, Option<&str>) {
    match state.split_once([':', ',', ' ']) {
        Some((word, more)) => (word, Some(more.trim_start())),
        None => (state, None),
    }
}

/// Returns how badly off a destination is that says this; more is worse.
pub fn rank(state: &str) -> u8 {
    match state {
        IN_SYNC => 0,
        "connecting" => 4,
        "disconnected" => 5,
        _ if has_arrived(state) => 1,
        _ if state.starts_with(BEHIND) => 2,
        _ if state.starts_with("mirroring") => 3,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One unreadable file is enough: who reads `in-sync` deletes the original.
    #[test]
    fn a_set_with_problems_is_not_in_sync() {
        assert_eq!(arrived(0), IN_SYNC);
        assert_eq!(arrived(1), "incomplete: 1 problem");
        assert_eq!(arrived(3), "incomplete: 3 problems");
        assert!(has_arrived(&arrived(0)) && has_arrived(&arrived(3)) && !has_arrived(BEHIND));
    }

    #[test]
    fn a_state_is_a_word_and_what_stands_behind_it() {
        for (state, word, more) in [
            (IN_SYNC, IN_SYNC, None),
            ("incomplete: 3 problems", "incomplete", Some("3 problems")),
            ("mirroring 40 %", "mirroring", Some("40 %")),
            ("mirroring, 7 found", "mirroring", Some("7 found")),
            ("alarm: it is gone: why", "alarm", Some("it is gone: why")),
        ] {
            assert_eq!(split(state), (word, more));
        }
    }

    #[test]
    fn the_worst_comes_last() {
        let order = [
            IN_SYNC,
            "incomplete: 3 problems",
            "behind: live tree",
            "mirroring 40 %",
            "connecting",
            "disconnected",
            "alarm: the disk is gone",
        ];
        assert!(order.is_sorted_by_key(|state| rank(state)), "{order:?}");
    }
}
