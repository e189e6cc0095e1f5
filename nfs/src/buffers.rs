//! Where records and answers are held: each connection has little of its own, and what is larger is lent to it.
//!
//! Memory that is freed is not always given back to the system, so large buffers are few and kept. Nobody has to have one:
//! an answer that finds none is a short one, after which clients ask for the rest.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use keepshare_nfs_wire::record::FRAGMENTS_MAX;

use crate::{
    limits::{
        ANSWERS_BYTES, OWN_BYTES, RECORD_BYTES_MAX, SMALL_TRANSFER_BYTES, TRANSFER_BYTES_MAX,
    },
    registry::{Client, Holder},
};

/// The large buffers of a door.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Made, and not lent now.
    kept: Vec<Vec<u8>>,
    /// Whom the others are lent to.
    lent: Vec<Holder>,
}

/// A large buffer that is lent; given back when dropped.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    holder: Holder,
    buffers: Arc<Buffers>,
}

impl Buffers {
    /// Lends a buffer, once there is one and the holder has not its share; `None` where that takes longer than `patience`,
    /// or the client's place is another's meanwhile.
    fn lend(
        self: &Arc<Self>,
        holder: Holder,
        patience: Duration,
        is_closed: impl Fn() -> bool,
    ) -> Option<Large> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while !state.has_one_for(&holder) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || is_closed() {
                return None;
            }
            let slice = left.min(CLOSED_LOOK);
            state = self.freed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lent.push(holder.clone());
        let kept = state.kept.pop();
        drop(state);
        let bytes = kept.unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES));
        Some(Large { bytes, holder, buffers: Arc::clone(self) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_one_for(&self, holder: &Holder) -> bool {
        let own = self.lent.iter().filter(|lent| *lent == holder).count();
        self.lent.len() < LARGE_MAX && own < LARGE_OF_A_HOLDER
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        bytes.clear();
        let mut state = self.buffers.state();
        if let Some(at) = state.lent.iter().position(|lent| *lent == self.holder) {
            state.lent.swap_remove(at);
        }
        if bytes.capacity() <= LARGE_BYTES {
            state.kept.push(bytes);
        }
        drop(state);
        self.buffers.freed.notify_all();
    }
}

/// Answers on their way out.
#[derive(Debug)]
pub(crate) struct Answers {
    own: Vec<u8>,
    large: Option<Large>,
    buffers: Arc<Buffers>,
}

impl Answers {
    pub(crate) fn new(buffers: Arc<Buffers>) -> Self {
        Self { own: Vec::new(), large: None, buffers }
    }

    /// Returns where the next answer is appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        match &mut self.large {
            Some(large) => &mut large.bytes,
            None => &mut self.own,
        }
    }

    /// Returns how many bytes of content or names an answer may have that is asked for `wanted`: all of them where a large
    /// buffer can be had, which a stranger never gets.
    pub(crate) fn room_for(&mut self, wanted: u32, client: &Client) -> u32 {
        if wanted <= SMALL_TRANSFER_BYTES || self.large.is_some() {
            return TRANSFER_BYTES_MAX;
        }
        let holder = client.holder();
        let closed = || client.is_closed();
        let lent = holder.and_then(|holder| self.buffers.lend(holder, SHORT_PATIENCE, closed));
        let Some(mut large) = lent else { return SMALL_TRANSFER_BYTES };
        large.bytes.append(&mut self.own);
        self.large = Some(large);
        TRANSFER_BYTES_MAX
    }

    /// Tells whether so much waits that it is to be sent before the next answer.
    pub(crate) fn is_full(&self) -> bool {
        match &self.large {
            Some(large) => large.bytes.len() >= ANSWERS_BYTES,
            None => self.own.len() >= OWN_BYTES,
        }
    }

    /// Returns what is to be sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.large.as_ref().map_or(&self.own, |large| &large.bytes)
    }

    /// Lets go of what was sent.
    pub(crate) fn sent(&mut self) {
        self.large = None;
        self.own.clear();
        if self.own.capacity() > OWN_BYTES {
            self.own = Vec::new();
        }
    }
}

/// What was received and not answered yet.
#[derive(Debug)]
pub(crate) struct Received {
    own: Vec<u8>,
    large: Option<Large>,
    start: usize,
    end: usize,
    /// Since when a part of a record waits for its rest.
    pub(crate) since: Option<Instant>,
    buffers: Arc<Buffers>,
}

impl Received {
    pub(crate) fn new(buffers: Arc<Buffers>) -> Self {
        Self { own: Vec::new(), large: None, start: 0, end: 0, since: None, buffers }
    }

    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes()[self.start..self.end]
    }

    pub(crate) fn waiting_mut(&mut self) -> &mut [u8] {
        let waiting = self.start..self.end;
        &mut self.bytes_mut()[waiting]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        // What is left began to arrive with the last bytes.
        self.since = (self.start < self.end).then(Instant::now);
        if self.start == self.end {
            (self.start, self.end, self.large) = (0, 0, None);
        }
    }

    pub(crate) fn add(&mut self, len: usize) {
        self.end += len;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Returns where the next bytes go. Grows by what came, never by what was announced; waits where it takes a large
    /// buffer and there is none.
    pub(crate) fn room(&mut self, record_max: usize, client: &Client) -> io::Result<&mut [u8]> {
        let (start, end) = (self.start, self.end);
        if start > 0 {
            self.bytes_mut().copy_within(start..end, 0);
            (self.start, self.end) = (0, end - start);
        }
        // A record that is not whole yet is shorter than the most with its marks, so there is always room.
        let most = record_max + 4 * FRAGMENTS_MAX;
        if self.end == self.bytes().len() {
            match &mut self.large {
                Some(large) => {
                    let grown = (large.bytes.len() * 2).min(most).max(self.end + 1);
                    large.bytes.resize(grown, 0);
                }
                None if self.own.len() < OWN_BYTES.min(most) => {
                    self.own.resize(OWN_BYTES.min(most), 0);
                }
                None => self.enlarge(most, client)?,
            }
        }
        let end = self.end;
        Ok(&mut self.bytes_mut()[end..])
    }

    fn enlarge(&mut self, most: usize, client: &Client) -> io::Result<()> {
        // A stranger's longest record has room without.
        let holder = client.holder().ok_or(io::ErrorKind::InvalidData)?;
        let lent = self.buffers.lend(holder, LONG_PATIENCE, || client.is_closed());
        let mut large = lent.ok_or(io::ErrorKind::TimedOut)?;
        large.bytes.extend_from_slice(&self.own[..self.end]);
        large.bytes.resize((self.end * 2).min(most).max(self.end + 1), 0);
        self.large = Some(large);
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.large.as_ref().map_or(&self.own, |large| &large.bytes)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.large {
            Some(large) => &mut large.bytes,
            None => &mut self.own,
        }
    }
}

/// What a large buffer has room for: answers that wait and one more, or a record with its marks.
const LARGE_BYTES: usize = ANSWERS_BYTES + RECORD_BYTES_MAX + 4 * FRAGMENTS_MAX;

/// How many there are at most: 20 MiB.
const LARGE_MAX: usize = 16;

/// How many of them one user has at most, so that others find some.
const LARGE_OF_A_HOLDER: usize = 6;

/// How long an answer waits for one: as long as others need for theirs, where they take them.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);

/// How often who waits looks whether the connection was closed meanwhile: its thread is counted until it ends.
const CLOSED_LOOK: Duration = Duration::from_millis(100);

/// How long a record waits for one.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Holder {
        Holder::User(name.to_owned())
    }

    /// However many ask, there are so many large buffers, one user has a share of them, and they are used again.
    #[test]
    fn large_buffers_are_few_and_shared() {
        let buffers = Arc::<Buffers>::default();
        let lend = |name| buffers.lend(user(name), Duration::ZERO, || false);
        let mut lent: Vec<_> = (0..100).filter_map(|_| lend("mallory")).collect();
        assert_eq!(lent.len(), LARGE_OF_A_HOLDER);
        for name in ["a", "b", "c", "d"] {
            lent.extend((0..LARGE_OF_A_HOLDER).filter_map(|_| lend(name)));
        }
        assert_eq!(lent.len(), LARGE_MAX);
        lent.iter_mut().for_each(|large| large.bytes.resize(LARGE_BYTES, 1));
        let mut first: Vec<_> = lent.iter().map(|large| large.bytes.as_ptr()).collect();
        drop(lent);
        assert!(buffers.state().lent.is_empty());
        let again: Vec<_> = ["a", "b", "c"]
            .iter()
            .flat_map(|name| (0..LARGE_OF_A_HOLDER).filter_map(|_| lend(name)).collect::<Vec<_>>())
            .collect();
        let mut second: Vec<_> = again.iter().map(|large| large.bytes.as_ptr()).collect();
        first.sort();
        second.sort();
        assert_eq!(first, second);
        assert!(again.iter().all(|large| large.bytes.is_empty()), "nothing of others is in them");
    }

    /// Who was closed does not wait on: its thread is counted until it ends, and newcomers need the room.
    #[test]
    fn who_was_closed_waits_for_nothing() {
        let buffers = Arc::<Buffers>::default();
        let closed = std::cell::Cell::new(false);
        let lend = || buffers.lend(user("mallory"), LONG_PATIENCE, || closed.replace(true));
        let lent: Vec<_> = (0..LARGE_OF_A_HOLDER).filter_map(|_| lend()).collect();
        assert_eq!(lent.len(), LARGE_OF_A_HOLDER);
        assert!(lend().is_none());
    }
}
