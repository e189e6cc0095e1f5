//! The process may end at any moment, and memory with it.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Arc, Mutex},
};

use keepshare_base::{RunningHash, Seq};
use keepshare_replication::source::Source;

use super::{
    edits::captures,
    support::{Model, Rig},
};

/// A database in memory that keeps an image of what was durable at every sync.
#[derive(Clone, Debug, Default)]
struct Images {
    bytes: Arc<Mutex<Vec<u8>>>,
    images: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Images {
    fn of(image: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Mutex::new(image)), images: Arc::default() }
    }

    fn database(&self) -> redb::Database {
        redb::Builder::new().create_with_backend(self.clone()).unwrap()
    }
}

impl redb::StorageBackend for Images {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let image = self.bytes.lock().unwrap().clone();
        self.images.lock().unwrap().push(image);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Whatever was durable when the process ended: a station that had everything up to there, and one that lags, both
/// become the folder.
#[test]
fn an_end_at_any_transaction_loses_nothing() {
    for mode in captures() {
        let images = Images::default();
        let mut rig = Rig::new(mode);
        rig.handle.shutdown();
        rig.model = Model::default();
        rig.handle = Source::open(rig.config.clone(), images.database()).unwrap();
        rig.mirror();
        // Before that there was nothing to lose.
        images.images.lock().unwrap().clear();
        let place =
            |rig: &Rig| (rig.at, (rig.handle.running_at(rig.at).unwrap(), rig.model.clone()));
        let mut models = BTreeMap::from([place(&rig)]);
        for i in 0..12u8 {
            work(&rig, i);
            let head = rig.handle.head().seq;
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while rig.handle.head().seq == head && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
            rig.settle();
            models.extend([place(&rig)]);
        }
        rig.settle();
        rig.handle.shutdown();
        let all = std::mem::take(&mut *images.images.lock().unwrap());
        println!("{} images", all.len());
        for image in all.into_iter().step_by(3) {
            let database = redb::Builder::new().create_with_backend(Images::of(image)).unwrap();
            let Ok(handle) = Source::open(rig.config.clone(), database) else {
                panic!("an image that does not open");
            };
            rig.handle = handle;
            // The station that had most of this journal; not one that followed what came after the image.
            let common = |(at, (running, _)): &(&Seq, &(Option<RunningHash>, Model))| {
                rig.handle.running_at(**at).unwrap() == *running
            };
            match models.iter().rev().find(common) {
                Some((at, (_, model))) => {
                    (rig.at, rig.model) = (*at, model.clone());
                    if rig.handle.oldest().unwrap() > rig.at.next() {
                        rig.mirror();
                    }
                }
                None => {
                    rig.model = Model::default();
                    rig.mirror();
                }
            }
            rig.settle();
            rig.handle.shutdown();
        }
    }
}

fn work(rig: &Rig, i: u8) {
    let path = |name: &str| rig.path(name);
    match i % 6 {
        0 => {
            fs::create_dir(path(&format!("d{i}"))).unwrap();
            fs::write(path(&format!("d{i}/a")), vec![i; 100_000]).unwrap();
        }
        1 => fs::write(path("doc"), vec![i; 5000]).unwrap(),
        2 => fs::rename(path(&format!("d{}", i - 2)), path(&format!("e{i}"))).unwrap(),
        3 => fs::write(path("large"), vec![i; 6_000_000]).unwrap(),
        4 => {
            fs::write(path("tmp"), vec![i; 70_000]).unwrap();
            fs::rename(path("tmp"), path("doc")).unwrap();
        }
        _ => fs::remove_dir_all(path(&format!("e{}", i - 3))).unwrap(),
    }
}
