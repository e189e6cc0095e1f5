//! Short texts from a peer, made safe to print.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// A short text that can be shown as it is: control characters and direction marks are escaped, the end is cut off.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Makes `text` printable and cuts it at [`TEXT_BYTES_MAX`] bytes.
    pub fn new(text: &str) -> Self {
        let mut shown = String::new();
        for c in text.chars() {
            let start = shown.len();
            if is_hidden(c) {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
            if shown.len() > TEXT_BYTES_MAX {
                shown.truncate(start);
                break;
            }
        }
        Self(shown)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Controls could steer a terminal, direction marks could turn a text around.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer gives as its reason ends up in a terminal and in a log of one line per event.
    #[test]
    fn a_peers_text_cannot_steer_a_terminal_or_forge_a_line() {
        let text = Text::new("full\x1b[2J\nERROR all is lost \u{202e}gpj");
        assert_eq!(text.as_str(), "full\\u{1b}[2J\\nERROR all is lost \\u{202e}gpj");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(Text::new(&"ä".repeat(1000)).as_str().len(), TEXT_BYTES_MAX);
        assert_eq!(Text::new(&"\x01".repeat(1000)).as_str().len(), 510);
        let once = Text::new(&"x\u{7f}".repeat(400));
        assert_eq!(Text::new(once.as_str()), once, "made printable once is enough");
    }
}
