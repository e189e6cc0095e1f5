//! Writes what the real encoders write today into the corpora. What else is there stays: it was a way to break something.

use std::fs;

use keepshare_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let folder = target.folder();
        fs::create_dir_all(&folder)?;
        let examples = (target.examples)();
        for (name, bytes) in &examples {
            fs::write(folder.join(name), bytes)?;
        }
        eprintln!("{}: {} examples", target.name, examples.len());
    }
    Ok(())
}
