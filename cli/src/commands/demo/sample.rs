//! A small tree with some history, for a demo without a source.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::symlink,
    path::Path,
};

use anyhow::Context;

/// The file whose versions the demo points at.
pub(crate) const SHOWN: &str = "letters/offer.txt";

/// The edits that make the history, one after the other.
pub(crate) const EDITS: [fn(&Path) -> io::Result<()>; 6] =
    [raise_price, add_line, save_by_rename, rename_folder, delete_budget, overwrite_offer];

/// Makes the tree as it is before the edits.
pub(crate) fn make(source: &Path) -> anyhow::Result<()> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(source.join("letters"))?;
        fs::create_dir_all(source.join("plans/2026"))?;
        fs::write(source.join("README.txt"), README)?;
        fs::write(source.join(SHOWN), "Dear Ms Berger,\n\nwe offer the roof for 12 000.\n")?;
        fs::write(source.join("letters/thanks.txt"), "Thank you for your order.\n")?;
        fs::write(source.join("plans/2026/budget.csv"), "month,amount\nJanuary,100\n")?;
        let drawing: Vec<u8> =
            (0..200_000_u32).flat_map(|n| (n ^ (n >> 3)).to_le_bytes()).collect();
        fs::write(source.join("plans/2026/roof.drawing"), drawing)?;
        symlink("plans/2026", source.join("this-year"))
    };
    make().with_context(|| format!("cannot make the sample in {}", source.display()))
}

fn raise_price(source: &Path) -> io::Result<()> {
    fs::write(source.join(SHOWN), "Dear Ms Berger,\n\nwe offer the roof for 13 500.\n")
}

fn add_line(source: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(source.join(SHOWN))?;
    file.write_all("\nScaffolding is included.\n".as_bytes())
}

/// As editors save: beside it, then over it.
fn save_by_rename(source: &Path) -> io::Result<()> {
    let beside = source.join("letters/.offer.txt.new");
    let text = "Dear Ms Berger,\n\nwe offer the roof for 13 200.\n\nScaffolding is included.\n";
    fs::write(&beside, text)?;
    fs::rename(beside, source.join(SHOWN))
}

fn rename_folder(source: &Path) -> io::Result<()> {
    fs::rename(source.join("plans"), source.join("drawings"))
}

fn delete_budget(source: &Path) -> io::Result<()> {
    fs::remove_file(source.join("drawings/2026/budget.csv"))
}

/// What everybody does once: the wrong text in the right file.
fn overwrite_offer(source: &Path) -> io::Result<()> {
    fs::write(source.join(SHOWN), "asdf\n")
}

const README: &str = "A sample for trying Keepshare. Change, rename and delete what you like:\n\
                      every version stays.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_finds_what_it_edits() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        EDITS.iter().for_each(|edit| edit(dir.path()).unwrap());
        assert_eq!(fs::read(dir.path().join(SHOWN)).unwrap(), b"asdf\n");
        assert!(dir.path().join("drawings/2026/roof.drawing").exists());
    }
}
