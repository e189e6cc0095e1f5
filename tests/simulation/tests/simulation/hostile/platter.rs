//! The simulated disk as a thing outside this machine's memory.

use std::{io, sync::Arc};

use keepshare_versioning::disk::{
    Disk, DiskFile,
    sim::{Crash, SimDisk},
};

use super::memory::on_disk;

/// A disk in memory that is not counted as memory.
#[derive(Debug)]
pub(crate) struct Platter(Option<SimDisk>);

impl Platter {
    /// Returns an empty one.
    pub(crate) fn new() -> Self {
        Self(Some(on_disk(SimDisk::new)))
    }

    /// Returns the disk as a store uses it.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(Self(self.0.clone()))
    }

    /// Returns it as the next start finds it.
    pub(crate) fn reopen(&self, crash: Crash) -> Self {
        Self(Some(on_disk(|| self.sim().reopen(crash))))
    }

    /// Leaves so much room, or all there is.
    pub(crate) fn leave(&self, bytes: Option<u64>) {
        let used = self.sim().used_bytes();
        self.sim().set_capacity(bytes.map(|bytes| used + bytes));
    }

    fn sim(&self) -> &SimDisk {
        self.0.as_ref().expect("only dropping takes it out")
    }
}

impl Drop for Platter {
    fn drop(&mut self) {
        on_disk(|| drop(self.0.take()));
    }
}

impl Disk for Platter {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = on_disk(|| self.sim().open(name, create))?;
        Ok(Arc::new(File(Some(file))))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        on_disk(|| self.sim().list(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        on_disk(|| self.sim().rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        on_disk(|| self.sim().remove(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        on_disk(|| self.sim().sync_dir(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        on_disk(|| self.sim().free_bytes())
    }

    fn hold_reserve(&self) -> io::Result<()> {
        on_disk(|| self.sim().hold_reserve())
    }

    fn release_reserve(&self) -> io::Result<bool> {
        on_disk(|| self.sim().release_reserve())
    }
}

#[derive(Debug)]
struct File(Option<Arc<dyn DiskFile>>);

impl File {
    fn inner(&self) -> &dyn DiskFile {
        &**self.0.as_ref().expect("only dropping takes it out")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        on_disk(|| drop(self.0.take()));
    }
}

impl DiskFile for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        on_disk(|| self.inner().read_exact_at(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        on_disk(|| self.inner().write_all_at(buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        on_disk(|| self.inner().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        on_disk(|| self.inner().set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        on_disk(|| self.inner().sync_data())
    }
}
