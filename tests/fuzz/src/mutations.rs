//! Bytes that are nearly good.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::Target;

/// The longest input that is made, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// Numbers at which something may be different.
const NUMBERS: [u32; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, u32::MAX - 1, u32::MAX];

/// Makes inputs of a corpus, each following from the seed and what was made before.
#[derive(Debug)]
pub struct Mutator<'a> {
    random: StdRng,
    corpus: &'a [(String, Vec<u8>)],
    words: &'static [&'static [u8]],
}

impl<'a> Mutator<'a> {
    /// Returns one for a target; its corpus must not be empty.
    pub fn new(seed: u64, target: &Target, corpus: &'a [(String, Vec<u8>)]) -> Self {
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        Self { random: StdRng::seed_from_u64(seed), corpus, words: target.words }
    }

    /// Returns the next input: a file of the corpus, changed here and there.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut bytes = self.file().to_vec();
        for _ in 0..self.random.random_range(1..=4) {
            self.change(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.random_range(0..=bytes.len());
        match self.random.random_range(0..8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.random.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.random.random();
                }
            }
            2 => self.put_number(bytes, at),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..self.end(at, bytes.len()))),
            5 => {
                let part = bytes[at..self.end(at, bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                // The beginning of one, the end of another.
                let other = self.file();
                let from = self.random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(word) = self.words.choose(&mut self.random) {
                    bytes.splice(at..at, word.iter().copied());
                } else {
                    bytes.insert(at, self.random.random());
                }
            }
        }
    }

    /// Puts a number over what is there, in the order of bytes that one format or another has.
    fn put_number(&mut self, bytes: &mut [u8], at: usize) {
        let number = *NUMBERS.choose(&mut self.random).expect("there are some");
        let number = if self.random.random() { number.to_le_bytes() } else { number.to_be_bytes() };
        for (byte, new) in bytes[at..].iter_mut().zip(number) {
            *byte = new;
        }
    }

    /// Returns where a part ends that begins at `at`: most parts are short.
    fn end(&mut self, at: usize, len: usize) -> usize {
        let most = if self.random.random_bool(0.8) { 16 } else { len };
        at + self.random.random_range(0..=most.min(len - at))
    }

    fn file(&mut self) -> &'a [u8] {
        &self.corpus.choose(&mut self.random).expect("it is not empty").1
    }
}
