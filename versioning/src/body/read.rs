//! Reading a body at a commit.

use std::{collections::HashMap, ops::Range};

use keepshare_base::CommitId;

use crate::{
    index::{IndexError, Rows, Table, keys, values::decode_loc, voids},
    pack::{PackError, PackLoc},
    record::{BLOCK_BYTES, Body, BodyId, Grain, PAGE_BYTES},
};

use super::{BodyError, Frames};

/// What to read where, to have a range of a body. It outlives the view it was made with.
#[derive(Debug)]
pub(crate) enum ReadPlan {
    Inline(Vec<u8>),
    Blob { loc: PackLoc, range: Range<u64> },
    Mapped { blocks: Vec<Block>, range: Range<u64> },
}

/// A stretch of a file that one frame has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Where in the file it begins.
    pub(crate) start: u64,
    /// How many bytes it has.
    pub(crate) len: usize,
    /// The frame.
    pub(crate) loc: PackLoc,
    /// Where in the frame's content it begins.
    pub(crate) skip: usize,
}

/// One block of a mapped body, with the pages over it.
#[derive(Debug)]
pub(crate) struct Block {
    start: u64,
    base: Option<Part>,
    pages: Vec<Part>,
}

/// Content of a block or page, of which the bytes from `limit` on are hidden.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: u64,
    loc: Option<PackLoc>,
    limit: u64,
}

/// Returns how to read a range, which is inside the file's size, of what a body was at `at`.
pub(crate) fn plan_read(
    rows: &impl Rows,
    body: &Body,
    at: CommitId,
    range: Range<u64>,
) -> Result<ReadPlan, BodyError> {
    Ok(match body {
        Body::Inline(bytes) => {
            let bytes = bytes.iter().skip(to_usize(range.start)).copied();
            ReadPlan::Inline(bytes.take(to_usize(range.end - range.start)).collect())
        }
        Body::Blob(loc) => ReadPlan::Blob { loc: *loc, range },
        Body::Mapped(body) => {
            let blocks = plan_blocks(rows, *body, at, &range)?;
            ReadPlan::Mapped { blocks, range }
        }
        Body::Expired | Body::Aside { .. } => return Err(BodyError::Expired),
    })
}

impl ReadPlan {
    /// Returns the frames that have what was planned, where each byte of it is as one of them has it.
    pub(crate) fn frames(&self) -> Option<Vec<Stretch>> {
        match self {
            Self::Blob { loc, range } => {
                let (start, len) = (range.start, to_usize(range.end - range.start));
                Some(vec![Stretch { start, len, loc: *loc, skip: to_usize(start) }])
            }
            Self::Mapped { blocks, range } => {
                let mut next = range.start;
                let stretches = blocks.iter().map(|block| {
                    let stretch = block.stretch(range).filter(|stretch| stretch.start == next)?;
                    next += stretch.len as u64;
                    Some(stretch)
                });
                let stretches: Option<Vec<_>> = stretches.collect();
                stretches.filter(|_| next == range.end)
            }
            Self::Inline(_) => None,
        }
    }

    /// Tells whether a frame is read for it.
    pub(crate) fn needs(&self, loc: PackLoc) -> bool {
        match self {
            Self::Inline(_) => false,
            Self::Blob { loc: blob, .. } => *blob == loc,
            Self::Mapped { blocks, range } => blocks.iter().any(|block| block.needs(loc, range)),
        }
    }

    /// Reads what was planned.
    pub(crate) fn run(self, frames: &impl Frames) -> Result<Vec<u8>, PackError> {
        let mut bytes = vec![];
        self.run_into(frames, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends what was planned, and nothing where that cannot be read.
    pub(crate) fn run_into(self, frames: &impl Frames, out: &mut Vec<u8>) -> Result<(), PackError> {
        let before = out.len();
        let done = match self {
            Self::Inline(bytes) => {
                out.extend_from_slice(&bytes);
                Ok(())
            }
            Self::Blob { loc, range } => frames.look(loc, &mut |content| {
                let end = to_usize(range.end).min(content.len());
                out.extend_from_slice(&content[to_usize(range.start).min(end)..end]);
            }),
            Self::Mapped { blocks, range } => append_blocks(&blocks, &range, frames, out),
        };
        done.inspect_err(|_| out.truncate(before))
    }
}

fn append_blocks(
    blocks: &[Block],
    range: &Range<u64>,
    frames: &impl Frames,
    out: &mut Vec<u8>,
) -> Result<(), PackError> {
    let before = out.len();
    out.reserve(to_usize(range.end - range.start));
    blocks.iter().try_for_each(|block| block.append(frames, range, before, out))?;
    out.resize(before + to_usize(range.end - range.start), 0);
    Ok(())
}

impl Block {
    /// Returns the block's part of `range` as a stretch of its base, where nothing of that is hidden or missing.
    fn stretch(&self, range: &Range<u64>) -> Option<Stretch> {
        let base = self.base.as_ref().filter(|_| self.pages.is_empty())?;
        let loc = base.loc?;
        let start = self.start.max(range.start);
        let end = (self.start + BLOCK_BYTES).min(range.end);
        let is_whole = start < end && base.limit >= end && self.start + u64::from(loc.raw) >= end;
        let (len, skip) = (to_usize(end.checked_sub(start)?), to_usize(start - self.start));
        is_whole.then_some(Stretch { start, len, loc, skip })
    }

    /// Appends the block's part of `range`, whose bytes begin at `before`; what no block has is zeros.
    fn append(
        &self,
        frames: &impl Frames,
        range: &Range<u64>,
        before: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let from = self.start.max(range.start);
        let to = (self.start + BLOCK_BYTES).min(range.end);
        out.resize(before + to_usize(from - range.start), 0);
        if let Some(base) = &self.base
            && !self.pages_cover(from, to)
        {
            base.append(frames, from..to, out)?;
        }
        out.resize(before + to_usize(to - range.start), 0);
        let bytes = &mut out[before..];
        self.pages.iter().try_for_each(|page| page.fill(frames, range.start, bytes))
    }

    /// Tells whether a frame is read for the block's part of a range.
    fn needs(&self, loc: PackLoc, range: &Range<u64>) -> bool {
        let (from, to) = (self.start.max(range.start), (self.start + BLOCK_BYTES).min(range.end));
        let base = self.base.as_ref().filter(|_| !self.pages_cover(from, to));
        base.into_iter().chain(&self.pages).any(|part| part.loc == Some(loc))
    }

    /// Tells whether the pages leave nothing to see of the base in what is read.
    fn pages_cover(&self, from: u64, to: u64) -> bool {
        self.pages.len() as u64 == to.div_ceil(PAGE_BYTES) - from / PAGE_BYTES
    }
}

impl Part {
    /// Appends what is seen of a range, which is inside the part: less than the range where the rest is zeros.
    fn append(
        &self,
        frames: &impl Frames,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let Some(loc) = self.loc.filter(|_| self.limit > range.start) else { return Ok(()) };
        let seen = to_usize(range.end.min(self.limit) - self.start);
        let skip = to_usize(range.start - self.start);
        frames.look(loc, &mut |content| {
            let seen = seen.min(content.len());
            out.extend_from_slice(&content[skip.min(seen)..seen]);
        })
    }

    /// Puts a page's bytes into `bytes`, which begin at `start` of the file.
    fn fill(&self, frames: &impl Frames, start: u64, bytes: &mut [u8]) -> Result<(), PackError> {
        let from = self.start.max(start);
        let to = (self.start + PAGE_BYTES).min(start + bytes.len() as u64);
        if from >= to {
            return Ok(());
        }
        let mut page = vec![];
        self.append(frames, from..to, &mut page)?;
        page.resize(to_usize(to - from), 0);
        bytes[to_usize(from - start)..to_usize(to - start)].copy_from_slice(&page);
        Ok(())
    }
}

fn plan_blocks(
    rows: &impl Rows,
    body: BodyId,
    at: CommitId,
    range: &Range<u64>,
) -> Result<Vec<Block>, IndexError> {
    if range.is_empty() {
        return Ok(vec![]);
    }
    let mut voids = Voids::load(rows, body, at)?;
    let mut pages = pages(rows, body, at, range)?.into_iter().peekable();
    let mut blocks = Vec::new();
    for number in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
        let start = number * BLOCK_BYTES;
        let base = newest(rows, body, Grain::Block, number, at)?;
        let base_at = base.map_or(CommitId(0), |(base_at, _)| base_at);
        let base = match base {
            Some((base_at, loc)) => Some(Part { start, loc, limit: voids.limit(base_at)? }),
            None => None,
        };
        let mut over = Vec::new();
        while let Some((number, page_at, loc)) =
            pages.next_if(|(page, ..)| page * PAGE_BYTES < start + BLOCK_BYTES)
        {
            if page_at >= base_at {
                over.push(Part { start: number * PAGE_BYTES, loc, limit: voids.limit(page_at)? });
            }
        }
        if base.is_some() || !over.is_empty() {
            blocks.push(Block { start, base, pages: over });
        }
    }
    Ok(blocks)
}

/// Returns the newest row of a block or page at a commit.
fn newest(
    rows: &impl Rows,
    body: BodyId,
    grain: Grain,
    number: u64,
    at: CommitId,
) -> Result<Option<(CommitId, Option<PackLoc>)>, IndexError> {
    let table = keys::table_of(grain);
    let key = keys::piece(&crate::record::Piece { body, grain, number, at });
    let Some((key, value)) = rows.first_under(table, &keys::place(body, number), &key)? else {
        return Ok(None);
    };
    Ok(Some((keys::newest_of(table, key.value())?, decode_loc(table, value.value())?)))
}

/// A page's number, the commit of its newest row, and the content.
type Page = (u64, CommitId, Option<PackLoc>);

/// Returns the newest rows of the pages that touch a range, at a commit; only pages with rows cost a seek.
fn pages(
    rows: &impl Rows,
    body: BodyId,
    at: CommitId,
    range: &Range<u64>,
) -> Result<Vec<Page>, IndexError> {
    let end = range.end.div_ceil(PAGE_BYTES);
    let mut number = range.start / PAGE_BYTES;
    let mut pages = Vec::new();
    while number < end {
        let from = keys::place(body, number);
        let Some((key, _)) = rows.first_under(Table::Page, &keys::body(body), &from)? else {
            break;
        };
        number = keys::read_piece(Grain::Page, key.value())?.number;
        if number >= end {
            break;
        }
        if let Some((page_at, loc)) = newest(rows, body, Grain::Page, number, at)? {
            pages.push((number, page_at, loc));
        }
        number += 1;
    }
    Ok(pages)
}

/// The voids of a body up to a commit, asked for as far as rows are older than them.
struct Voids<'a, R> {
    rows: &'a R,
    body: BodyId,
    /// The newest one up to what is read.
    newest: Option<CommitId>,
    /// What was found for rows of a commit: many have the same.
    known: HashMap<CommitId, u64>,
}

impl<'a, R: Rows> Voids<'a, R> {
    fn load(rows: &'a R, body: BodyId, at: CommitId) -> Result<Self, IndexError> {
        let newest = rows.first_under(Table::Void, &keys::body(body), &keys::void(body, at))?;
        let newest =
            newest.map(|(key, _)| keys::newest_of(Table::Void, key.value())).transpose()?;
        Ok(Self { rows, body, newest, known: HashMap::new() })
    }

    /// Returns the first byte that is hidden of a row of commit `of`.
    fn limit(&mut self, of: CommitId) -> Result<u64, IndexError> {
        let Some(newest) = self.newest.filter(|newest| *newest > of) else { return Ok(u64::MAX) };
        if let Some(known) = self.known.get(&of) {
            return Ok(*known);
        }
        let smallest = voids::smallest(self.rows, self.body, of.next(), newest)?;
        let limit = smallest.unwrap_or(u64::MAX);
        self.known.insert(of, limit);
        Ok(limit)
    }
}

/// Casts a length that was bounded by what is in memory.
pub(super) fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("a length in memory")
}
