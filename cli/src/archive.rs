//! A backup of a station as one file: a line of JSON for each piece, the content of each file behind its line, all of it encrypted with
//! a passphrase as an age file, which other programs open, too.

use std::{
    io::{Read, Write},
    iter,
};

use age::{Decryptor, Encryptor, Identity, Recipient, scrypt, secrecy::SecretString};
use anyhow::Context;

use keepshare_control::{
    Failure, Outcome,
    backup::{BackedFile, BackedUp, BackupOf, FORMAT},
};

/// How much work a guess of the passphrase is, as a power of two: 128 MiB of memory, and a third of a second.
const WORK: u8 = 17;

/// The most work that is done to open a file: 1 GiB of memory.
const WORK_MAX: u8 = 20;

/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The longest archive, in bytes: it is put together in memory.
const BYTES_MAX: usize = 1 << 30;

/// A backup that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Packing(Vec<u8>);

/// A backup that was opened.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// What it is a backup of.
    pub(crate) of: BackupOf,
    /// Its files.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Packing {
    /// Adds a piece.
    pub(crate) fn piece(&mut self, piece: &BackedUp) -> Outcome<()> {
        serde_json::to_writer(&mut self.0, piece).map_err(anyhow::Error::new)?;
        self.data(b"\n")
    }

    /// Adds content of the last file.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Outcome<()> {
        if self.0.len() + bytes.len() > BYTES_MAX {
            return Err(Failure::refused(
                "the station's state is too long for a backup of this kind",
            ));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the file; a backup that is not whole is none.
    pub(crate) fn seal(self, passphrase: &str) -> Outcome<Vec<u8>> {
        read(&self.0)?;
        let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        recipient.set_work_factor(WORK);
        let encryptor = Encryptor::with_recipients(iter::once(&recipient as &dyn Recipient));
        let mut sealed = Vec::with_capacity(self.0.len() + LINE_BYTES_MAX);
        let seal = || -> anyhow::Result<()> {
            let mut writer = encryptor?.wrap_output(&mut sealed)?;
            writer.write_all(&self.0)?;
            writer.finish()?;
            Ok(())
        };
        seal().context("cannot encrypt the backup")?;
        Ok(sealed)
    }
}

/// Opens a backup.
pub(crate) fn open(sealed: &[u8], passphrase: &str) -> Outcome<Unpacked> {
    let no_backup = || {
        Failure::refused("this is no backup that keepshare station backup made")
            .hint("name the file that it wrote")
    };
    let decryptor = Decryptor::new(sealed).map_err(|_| no_backup())?;
    if !decryptor.is_scrypt() {
        return Err(no_backup());
    }
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(WORK_MAX);
    let mut text = Vec::new();
    let mut reader = decryptor.decrypt(iter::once(&identity as &dyn Identity)).map_err(|_| {
        Failure::refused("the backup does not open with this passphrase")
            .hint("type the one that it was made with; a file that is damaged does not open either")
    })?;
    let limit = BYTES_MAX as u64 + 1;
    let read_all = reader.by_ref().take(limit).read_to_end(&mut text);
    read_all.map_err(|_| Failure::refused("the backup is damaged, or not whole"))?;
    read(&text)
}

fn read(mut text: &[u8]) -> Outcome<Unpacked> {
    let damaged = || Failure::refused("the backup is not whole");
    let mut next = || -> Outcome<(BackedUp, &[u8])> {
        let end = text.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let (line, rest) = text.split_at(end.ok_or_else(damaged)?);
        let piece: BackedUp = serde_json::from_slice(line).map_err(|_| damaged())?;
        let bytes = match &piece {
            BackedUp::File(file) => usize::try_from(file.bytes).map_err(|_| damaged())?,
            BackedUp::Station(_) | BackedUp::End(_) => 0,
        };
        let content = rest[1..].get(..bytes).ok_or_else(damaged)?;
        text = &rest[1 + bytes..];
        Ok((piece, content))
    };
    let (BackedUp::Station(of), _) = next()? else { return Err(damaged()) };
    if of.format != FORMAT {
        let format = of.format;
        return Err(Failure::refused(format!(
            "the backup has format {format}; this release knows {FORMAT}"
        ))
        .hint(format!("bring it back with release {} or a later one", of.version)));
    }
    let mut files = Vec::new();
    loop {
        match next()? {
            (BackedUp::File(BackedFile { path, .. }), content) => {
                files.push((path, content.to_vec()));
            }
            (BackedUp::End(count), _) if count == files.len() as u64 => {
                return Ok(Unpacked { of, files });
            }
            (BackedUp::Station(_) | BackedUp::End(_), _) => return Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Packing {
        let mut packing = Packing::default();
        let of = BackupOf {
            format: FORMAT,
            station: "office".into(),
            role: "primary".into(),
            time: "2026-11-20T14:32:07Z".into(),
            version: "0.1.0".into(),
        };
        packing.piece(&BackedUp::Station(of)).unwrap();
        packing.piece(&BackedUp::File(BackedFile { path: "a".into(), bytes: 3 })).unwrap();
        packing.data(b"\n{\xff").unwrap();
        packing
    }

    #[test]
    fn what_is_packed_is_opened_and_nothing_else() {
        let mut packing = packed();
        packing.piece(&BackedUp::End(1)).unwrap();
        let sealed = packing.seal("correct horse battery").unwrap();
        let opened = open(&sealed, "correct horse battery").unwrap();
        assert_eq!(opened.files, [("a".to_owned(), b"\n{\xff".to_vec())]);
        assert_eq!(opened.of.station, "office");
        assert!(open(&sealed, "correct horse").unwrap_err().to_string().contains("passphrase"));
        assert!(open(&sealed[..sealed.len() - 1], "correct horse battery").is_err());
        for at in [30, sealed.len() / 2, sealed.len() - 1] {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open(&flipped, "correct horse battery").is_err(), "flipped at {at}");
        }
        assert!(open(b"a tar, perhaps", "correct horse battery").is_err());
    }

    /// A station that stops while it gives itself out leaves half a backup: that must not be kept as one.
    #[test]
    fn half_a_backup_is_none() {
        assert!(packed().seal("correct horse battery").is_err());
        let mut packing = packed();
        packing.piece(&BackedUp::End(2)).unwrap();
        assert!(packing.seal("correct horse battery").is_err());
    }
}
