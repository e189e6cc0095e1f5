//! How much memory a stream takes: an allocator that counts for each thread.
//!
//! What the simulated disk holds stands for a disk, and is not counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static IS_DISK: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: usize, is_more: bool) {
    if IS_DISK.get() {
        return;
    }
    let bytes = bytes.cast_signed();
    let held = HELD.get() + if is_more { bytes } else { -bytes };
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[expect(unsafe_code, reason = "an allocator is one; all it does is count")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), true);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), false);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there while it moves.
        count(size, true);
        let moved = unsafe { System.realloc(at, layout, size) };
        count(layout.size(), false);
        moved
    }
}

/// What a thread held when this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(isize);

impl Mark {
    /// Begins to look for the most that is held from now on.
    pub(crate) fn set() -> Self {
        PEAK.set(HELD.get());
        Self(HELD.get())
    }

    /// Returns how much more than at the mark was held at most, in bytes.
    pub(crate) fn peak(self) -> usize {
        usize::try_from(PEAK.get() - self.0).unwrap_or(0)
    }
}

/// Does what a disk does.
pub(crate) fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    let before = IS_DISK.replace(true);
    let done = work();
    IS_DISK.set(before);
    done
}
