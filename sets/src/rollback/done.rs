//! Lines as they are written down, one after the other.

use std::{fs::File, io::Write};

use serde::Serialize;

/// How far a roll-back is, as it is written down.
#[derive(Debug)]
pub(crate) struct Done {
    pub(super) file: File,
    /// How many bytes are whole lines.
    pub(super) whole: u64,
}

impl Done {
    /// Writes lines; what of them could not be written is not there, and can be written again.
    pub(crate) fn write(&mut self, lines: &[impl Serialize]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        lines.iter().try_for_each(|line| write_line(&mut bytes, line))?;
        if let Err(error) = self.file.write_all(&bytes) {
            self.file.set_len(self.whole)?;
            return Err(error);
        }
        self.whole += bytes.len() as u64;
        Ok(())
    }
}

/// Writes a line.
pub(crate) fn write_line(out: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)
}
