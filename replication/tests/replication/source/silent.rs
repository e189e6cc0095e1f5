//! Writes that no event tells of, and answers that are true of the moment of the question.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{edits::captures, support::Rig};

/// A folder on a disk: a store through a map leaves a time there, in memory it does not.
fn disk() -> PathBuf {
    std::env::temp_dir()
}

const LEN: usize = 4 * 4096;

/// A shared, writable map of a file, which stays as long as this.
struct Mapped(*mut std::ffi::c_void);

impl Mapped {
    #[expect(unsafe_code, reason = "a shared map is what this is about")]
    fn of(path: &std::path::Path) -> Self {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (all, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new map at a place that the kernel chooses, of a file that stays as long.
        Self(unsafe { mmap(std::ptr::null_mut(), LEN, all, shared, &file, 0) }.unwrap())
    }

    #[expect(unsafe_code, reason = "a shared map is what this is about")]
    fn store(&self, at: usize, byte: u8) {
        assert!(at < LEN);
        // SAFETY: within the map, which nobody has a reference to.
        unsafe { self.0.cast::<u8>().add(at).write_volatile(byte) };
    }
}

impl Drop for Mapped {
    #[expect(unsafe_code, reason = "a shared map is what this is about")]
    fn drop(&mut self) {
        // SAFETY: what was mapped above.
        unsafe { munmap(self.0, LEN) }.unwrap();
    }
}

fn wait_byte(rig: &mut Rig, at: usize, byte: u8) {
    let file = rig.file("map");
    rig.wait("the store", move |rig| rig.model.files[&file].bytes.to_vec()[at] == byte);
}

/// Databases keep files mapped for days: what they store must not wait for the end, and the file is shown to be open.
#[test]
fn what_is_stored_through_a_map_that_stays_open_is_seen() {
    for mode in captures() {
        let mut rig = Rig::with_place(mode, &disk());
        fs::write(rig.path("map"), vec![b'a'; LEN]).unwrap();
        rig.begin();
        let map = Mapped::of(&rig.path("map"));
        rig.wait("that it is open", |rig| rig.handle.status().swept.files == 1);
        map.store(0, b'b');
        wait_byte(&mut rig, 0, b'b');
        // Into the page that is dirty already: no time tells of it.
        map.store(1, b'c');
        wait_byte(&mut rig, 1, b'c');
        assert!(rig.handle.status().swept.ago < Duration::from_secs(60));
        // And at the very end, when all looks were over.
        map.store(5000, b'd');
        wait_byte(&mut rig, 5000, b'd');
        drop(map);
        rig.wait("that it is closed", |rig| rig.handle.status().swept.files == 0);
        rig.settle();
    }
}

/// Who reads in-sync deletes the original: the answer holds for what was saved right before the question.
#[test]
fn an_answer_that_all_is_examined_is_true_of_the_moment_of_the_question() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        for i in 0..200 {
            let content = format!("save {i}");
            let name = format!("f{}", i % 7);
            fs::write(rig.path(&name), &content).unwrap();
            let asked = rig.handle.ask_settled();
            assert!(asked.wait(Instant::now() + Duration::from_secs(30)), "{mode:?}: no answer");
            assert_eq!(rig.handle.status().dirty, 0, "{mode:?}: save {i}");
            rig.catch_up();
            let bytes = rig.model.files[&rig.file(&name)].bytes.to_vec();
            assert_eq!(bytes, content.as_bytes(), "{mode:?}: the answer came before the save");
        }
    }
}

/// A store into a page that is dirty already leaves no time: the answer holds for it as for every save.
#[test]
fn an_answer_is_true_of_what_was_stored_through_a_map_before_the_question() {
    for mode in captures() {
        let mut rig = Rig::with_place(mode, &disk());
        fs::write(rig.path("map"), vec![b'a'; LEN]).unwrap();
        rig.begin();
        let map = Mapped::of(&rig.path("map"));
        rig.wait("that it is open", |rig| rig.handle.status().swept.files == 1);
        for i in 0..100 {
            map.store(i, b'b');
            let asked = rig.handle.ask_settled();
            assert!(asked.wait(Instant::now() + Duration::from_secs(30)), "{mode:?}: no answer");
            rig.catch_up();
            let bytes = rig.model.files[&rig.file("map")].bytes.to_vec();
            assert_eq!(bytes[i], b'b', "{mode:?}: the answer came before store {i}");
        }
    }
}

#[test]
fn nobody_waits_for_a_source_that_has_ended() {
    let rig = Rig::new(captures()[0]);
    rig.handle.shutdown();
    let began = Instant::now();
    assert!(!rig.handle.ask_settled().wait(began + Duration::from_secs(30)));
    assert!(began.elapsed() < Duration::from_secs(10), "there was nobody to wait for");
}
