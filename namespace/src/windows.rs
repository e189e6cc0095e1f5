//! Which names Windows can show.

/// Tells whether Windows shows a name and opens what it stands for (Microsoft, *Naming Files, Paths, and Namespaces*).
///
/// It does not with `< > : " | ? * \` or control characters in it, with a dot or space at its end, when it is the name of
/// a device, with or without an extension, and when it is not UTF-8.
pub fn shows_on_windows(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let forbidden = |c: char| c.is_ascii_control() || r#"<>:"|?*\"#.contains(c);
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    !name.contains(forbidden) && !name.ends_with(['.', ' ']) && !is_device(stem)
}

fn is_device(stem: &str) -> bool {
    let upper = stem.to_ascii_uppercase();
    if matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL") {
        return true;
    }
    let number = upper.strip_prefix("COM").or_else(|| upper.strip_prefix("LPT"));
    number.is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_windows_takes_them() {
        for shown in
            ["report.docx", ".bashrc", "a b", "ärger", "console", "com10", "NULL.txt", "a@2"]
        {
            assert!(shows_on_windows(shown.as_bytes()), "{shown}");
        }
        let hidden = [
            "a:b", "what?", "a*", "a\\b", "\"q\"", "a|b", "<a>", "a\n", "end.", "end ", "con",
            "Con.txt", "LPT1", "com3.log", "aux .h",
        ];
        for hidden in hidden {
            assert!(!shows_on_windows(hidden.as_bytes()), "{hidden}");
        }
        assert!(!shows_on_windows(b"caf\xe9"), "not UTF-8");
    }
}
