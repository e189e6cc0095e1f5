//! Memory for content on its way, used again and again.
//!
//! What comes in large pieces and is let go of on another thread would be had from the system anew each time, page by page:
//! that takes longer than to copy what is in it. A few pieces are kept for what comes next; never more, so that a process
//! that is idle holds little.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many buffers are kept.
const KEPT_MAX: usize = 16;

/// What is less is had from the allocator, in bytes: much of a buffer would be held for little.
const BYTES_MIN: usize = 320 * 1024;

/// What a buffer has room for, in bytes: the most content of one change. Larger ones are not kept.
pub const BUFFER_BYTES: usize = 640 * 1024;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Returns an empty buffer that has room for `len` bytes.
pub fn take(len: usize) -> Vec<u8> {
    if !(BYTES_MIN..=BUFFER_BYTES).contains(&len) {
        return Vec::with_capacity(len);
    }
    kept().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

/// Gives a buffer back that is not needed any more, whoever it is from.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == BUFFER_BYTES {
        buffer.clear();
        let mut kept = kept();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

fn kept() -> MutexGuard<'static, Vec<Vec<u8>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of what was in a buffer may be seen by who gets it next, and an idle process holds a few at most.
    #[test]
    fn buffers_come_empty_and_few_are_kept() {
        for _ in 0..2 {
            let taken: Vec<_> = (0..3 * KEPT_MAX).map(|_| take(BYTES_MIN)).collect();
            for mut buffer in taken {
                assert!(buffer.is_empty() && buffer.capacity() >= BUFFER_BYTES);
                buffer.extend_from_slice(b"secret");
                give(buffer);
            }
            assert!(kept().len() <= KEPT_MAX);
        }
        give(Vec::with_capacity(2 * BUFFER_BYTES));
        assert!(kept().iter().all(|buffer| buffer.capacity() == BUFFER_BYTES));
        assert!(
            take(BUFFER_BYTES + 1).capacity() > BUFFER_BYTES && take(10).capacity() < BYTES_MIN
        );
    }
}
