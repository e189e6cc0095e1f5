//! Numbers of things, in words.

/// Returns `1 file`, `2 files`.
pub fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(counted(0, "set"), "0 sets");
        assert_eq!(counted(1, "set"), "1 set");
        assert_eq!(counted(2, "set"), "2 sets");
    }
}
