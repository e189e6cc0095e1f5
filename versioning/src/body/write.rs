//! Writing a file row's content: which rows it makes, and which it makes needless.

use keepshare_base::{CommitId, Content, FileRow};

use crate::{
    index::{IndexError, Rows, Table, keys},
    pack::{Hashed, Sum},
    record::{
        BLOB_BYTES_MAX, BLOCK_BYTES, Body, BodyId, FileValue, Grain, INLINE_BYTES_MAX, PAGE_BYTES,
        PAGES_PER_BLOCK, Piece, Row,
    },
};

use super::{
    BodyError, FramesMut,
    read::{plan_read, to_usize},
};

/// A file's state before a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Old<'a> {
    /// The commit that brought it.
    pub(crate) at: CommitId,
    /// The state.
    pub(crate) value: &'a FileValue,
    /// The newest commit whose state stays when the change is in; body rows after it are needed by no one else.
    pub(crate) kept: CommitId,
}

/// The bytes of a file row in the payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data<'b> {
    /// The bytes.
    pub(crate) bytes: &'b [u8],
    /// Their hashes.
    pub(crate) hashed: &'b Hashed,
}

/// What a file row's content became.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) body: Body,
    /// The commit that gave the content its present bytes.
    pub(crate) since: CommitId,
    pub(crate) rows: Vec<Row>,
}

/// Stores the content of the `index`-th file row of commit `at`.
pub(crate) fn write(
    rows: &impl Rows,
    frames: &mut impl FramesMut,
    at: CommitId,
    index: usize,
    old: Option<Old<'_>>,
    row: &FileRow,
    data: Data<'_>,
) -> Result<Written, BodyError> {
    let (fresh, spans) = spans(&row.content, data.bytes);
    let old_size = old.map_or(0, |old| old.value.meta.size);
    let size = row.meta.size;
    if let Some(old) = old
        && !fresh
        && spans.is_empty()
        && size == old_size
    {
        let FileValue { body, since, .. } = old.value.clone();
        return Ok(Written { body, since, rows: vec![] });
    }
    let old = old.filter(|_| !fresh);
    let new_rows = match old {
        Some(Old { at: old_at, value: FileValue { body: Body::Mapped(body), .. }, kept }) => {
            let body = *body;
            let visible = old_size.min(size);
            let (hashed, out) = (data.hashed, vec![]);
            let mut write = MappedWrite { rows, frames, at, body, size, visible, hashed, out };
            write.in_place(old_size, old_at, kept, spans)?;
            (Body::Mapped(body), write.out)
        }
        _ if size <= BLOB_BYTES_MAX => {
            let body = match whole(&spans, 0, size) {
                // Nothing of before is left: the bytes go to where they stay from where they came.
                Some((at, content)) => {
                    store_small(frames, content, data.hashed.sum(at, content.len()))?
                }
                None => {
                    let mut content = small_content(rows, frames, old, size)?;
                    spans.iter().for_each(|span| span.put(0, &mut content));
                    store_small(frames, &content, None)?
                }
            };
            (body, vec![])
        }
        _ => {
            let content = small_content(rows, frames, old, old.map_or(0, |_| old_size))?;
            let body = BodyId::new(at, index);
            let (hashed, visible, out) = (data.hashed, 0, vec![]);
            let mut write = MappedWrite { rows, frames, at, body, size, visible, hashed, out };
            write.anew(&content, spans)?;
            (Body::Mapped(body), write.out)
        }
    };
    Ok(Written { body: new_rows.0, since: at, rows: new_rows.1 })
}

/// A stretch of new content; without data it is zeros.
#[derive(Clone, Copy, Debug)]
struct Span<'b> {
    start: u64,
    end: u64,
    data: Option<&'b [u8]>,
    /// Where its data begins among the row's bytes.
    at: usize,
}

impl Span<'_> {
    /// Puts what of the span falls into `buf`, which begins at `start` of the file.
    fn put(&self, start: u64, buf: &mut [u8]) {
        let from = self.start.max(start);
        let to = self.end.min(start + buf.len() as u64);
        if from >= to {
            return;
        }
        let target = &mut buf[to_usize(from - start)..to_usize(to - start)];
        match self.data {
            Some(data) => {
                let skip = to_usize(from - self.start);
                target.copy_from_slice(&data[skip..skip + target.len()]);
            }
            None => target.fill(0),
        }
    }
}

fn spans<'b>(content: &Content, bytes: &'b [u8]) -> (bool, Vec<Span<'b>>) {
    let Content::Extents { fresh, extents, .. } = content else { return (false, vec![]) };
    let mut next = 0;
    let span = |extent: &keepshare_base::Extent| {
        let at = next;
        next += if extent.zero { 0 } else { to_usize(extent.len) };
        let data = (!extent.zero).then(|| &bytes[at..next]);
        Span { start: extent.offset, end: extent.offset + extent.len, data, at }
    };
    (*fresh, extents.iter().map(span).collect())
}

/// Returns the bytes from `start` to `end` of the file, and where they begin among the row's, where one span has all of them.
fn whole<'b>(spans: &[Span<'b>], start: u64, end: u64) -> Option<(usize, &'b [u8])> {
    let [Span { start: first, end: last, data: Some(data), at }] = spans else { return None };
    let is_all = *first <= start && start < end && end <= *last;
    is_all.then(|| {
        let skip = to_usize(start - first);
        (at + skip, &data[skip..skip + to_usize(end - start)])
    })
}

/// Returns the first `size` bytes of small content, with zeros behind where it is shorter.
pub(crate) fn small_content(
    rows: &impl Rows,
    frames: &impl FramesMut,
    old: Option<Old<'_>>,
    size: u64,
) -> Result<Vec<u8>, BodyError> {
    let mut content = match old {
        Some(old) => {
            let range = 0..old.value.meta.size.min(size);
            plan_read(rows, &old.value.body, old.at, range)?.run(frames)?
        }
        None => vec![],
    };
    content.resize(to_usize(size), 0);
    Ok(content)
}

fn store_small(
    frames: &mut impl FramesMut,
    content: &[u8],
    sum: Option<Sum>,
) -> Result<Body, BodyError> {
    if content.len() as u64 <= INLINE_BYTES_MAX {
        Ok(Body::Inline(content.to_vec()))
    } else {
        Ok(Body::Blob(frames.append(content, sum)?))
    }
}

/// One change of a mapped body.
struct MappedWrite<'a, R, F> {
    rows: &'a R,
    frames: &'a mut F,
    at: CommitId,
    body: BodyId,
    size: u64,
    /// Bytes of the old content from here on are zeros now.
    visible: u64,
    /// The hashes of the row's bytes.
    hashed: &'a Hashed,
    out: Vec<Row>,
}

impl<R: Rows, F: FramesMut> MappedWrite<'_, R, F> {
    /// Makes a new body of old small content and what is written over it.
    fn anew(&mut self, content: &[u8], mut spans: Vec<Span<'_>>) -> Result<(), BodyError> {
        let start = content.len() as u64;
        // Zeros need no rows where nothing was.
        spans.retain_mut(|span| {
            if span.data.is_none() {
                span.end = span.end.min(start);
            }
            span.start < span.end
        });
        let mut first = vec![0; to_usize(self.size.min(BLOCK_BYTES))];
        if !content.is_empty() {
            first[..content.len()].copy_from_slice(content);
            spans.iter().for_each(|span| span.put(0, &mut first));
            self.content(Grain::Block, 0, &first, None)?;
        }
        for number in touched(&spans, BLOCK_BYTES) {
            if number > 0 || content.is_empty() {
                self.block(number, &spans, None)?;
            }
        }
        Ok(())
    }

    /// Writes over what the body was at `old_at`.
    fn in_place(
        &mut self,
        old_size: u64,
        old_at: CommitId,
        kept: CommitId,
        mut spans: Vec<Span<'_>>,
    ) -> Result<(), BodyError> {
        let old_visible = self.visible;
        // A shrink, or zeros to the end of what was there, is a void; zeros behind it need nothing.
        let mut void = (self.size < old_size).then_some(self.size);
        spans.retain(|span| {
            let zeros = span.data.is_none();
            if zeros && span.start < old_visible && span.end >= old_visible {
                void = Some(void.map_or(span.start, |from| from.min(span.start)));
            }
            !zeros || span.end < old_visible
        });
        if let Some(from) = void {
            self.visible = self.visible.min(from);
            self.out.push(Row::Void { at: self.at, body: self.body, from });
            if kept < old_at {
                self.out.push(Row::Sweep { at: self.at, body: self.body });
            }
        }
        for number in touched(&spans, BLOCK_BYTES) {
            self.block(number, &spans, Some((old_at, kept)))?;
        }
        Ok(())
    }

    /// Writes one block that the spans touch: whole where they cover it, else page by page.
    fn block(
        &mut self,
        number: u64,
        spans: &[Span<'_>],
        old: Option<(CommitId, CommitId)>,
    ) -> Result<(), BodyError> {
        let spans = overlapping(spans, number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES);
        if self.unit(Grain::Block, number, spans, old)? {
            return Ok(());
        }
        for page in number * PAGES_PER_BLOCK..(number + 1) * PAGES_PER_BLOCK {
            let over = overlapping(spans, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            if !over.is_empty() {
                self.unit(Grain::Page, page, over, old)?;
            }
        }
        Ok(())
    }

    /// Writes a block if the spans cover it, or a page in any case; tells whether it was written.
    fn unit(
        &mut self,
        grain: Grain,
        number: u64,
        spans: &[Span<'_>],
        old: Option<(CommitId, CommitId)>,
    ) -> Result<bool, BodyError> {
        let start = number * grain.bytes();
        let end = (start + grain.bytes()).min(self.size);
        if let Some((at, content)) = whole(spans, start, end) {
            let sum = self.hashed.sum(at, content.len());
            self.content(grain, number, content, sum)?;
            return self.written(grain, number, old);
        }
        let is_covered = covered(spans, start, end);
        if !is_covered && grain == Grain::Block {
            return Ok(false);
        }
        let mut content = vec![0; to_usize(end - start)];
        if !is_covered {
            let visible = self.visible.min(end);
            if let Some((old_at, _)) = old
                && start < visible
            {
                let body = Body::Mapped(self.body);
                let plan = plan_read(self.rows, &body, old_at, start..visible)?;
                let before = plan.run(&*self.frames)?;
                content[..before.len()].copy_from_slice(&before);
            }
        }
        spans.iter().for_each(|span| span.put(start, &mut content));
        self.content(grain, number, &content, None)?;
        self.written(grain, number, old)
    }

    /// Drops what a block or page that was written just now makes needless.
    fn written(
        &mut self,
        grain: Grain,
        number: u64,
        old: Option<(CommitId, CommitId)>,
    ) -> Result<bool, BodyError> {
        if let Some((_, kept)) = old {
            self.drop_superseded(grain, number, kept)?;
        }
        Ok(true)
    }

    fn content(
        &mut self,
        grain: Grain,
        number: u64,
        content: &[u8],
        sum: Option<Sum>,
    ) -> Result<(), BodyError> {
        let zeros = content.iter().all(|byte| *byte == 0);
        let loc = if zeros { None } else { Some(self.frames.append(content, sum)?) };
        let piece = Piece { body: self.body, grain, number, at: self.at };
        self.out.push(Row::Content { piece, loc });
        Ok(())
    }

    /// Drops rows newer than `kept` that the new row of a block or page hides from everyone.
    fn drop_superseded(
        &mut self,
        grain: Grain,
        number: u64,
        kept: CommitId,
    ) -> Result<(), IndexError> {
        self.drop_newer(grain, number, number + 1, kept)?;
        if grain == Grain::Block {
            let first = number * PAGES_PER_BLOCK;
            self.drop_newer(Grain::Page, first, first + PAGES_PER_BLOCK, kept)?;
        }
        Ok(())
    }

    fn drop_newer(
        &mut self,
        grain: Grain,
        mut number: u64,
        end: u64,
        kept: CommitId,
    ) -> Result<(), IndexError> {
        let table: Table = keys::table_of(grain);
        while number < end {
            let from = keys::place(self.body, number);
            let found = self.rows.first_under(table, &keys::body(self.body), &from)?;
            let Some((key, _)) = found else { break };
            let piece = keys::read_piece(grain, key.value())?;
            if piece.number >= end {
                break;
            }
            if piece.at > kept {
                self.out.push(Row::ContentGone { piece });
            }
            number = piece.number + 1;
        }
        Ok(())
    }
}

/// Returns the numbers of the units that spans touch, each once.
fn touched(spans: &[Span<'_>], unit: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        spans.iter().flat_map(|span| span.start / unit..span.end.div_ceil(unit)).collect();
    numbers.dedup();
    numbers
}

/// Returns the spans that touch a range; they are in order.
fn overlapping<'a, 'b>(spans: &'a [Span<'b>], start: u64, end: u64) -> &'a [Span<'b>] {
    let from = spans.partition_point(|span| span.end <= start);
    let to = spans.partition_point(|span| span.start < end);
    &spans[from..to.max(from)]
}

/// Tells whether spans leave nothing of a range.
fn covered(spans: &[Span<'_>], start: u64, end: u64) -> bool {
    let mut next = start;
    for span in spans {
        if span.start > next {
            break;
        }
        next = next.max(span.end);
    }
    next >= end
}
