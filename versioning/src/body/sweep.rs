//! Finding what of a mapped body no kept state needs.
//!
//! A row stays while some kept state sees it: one at or after the row's commit, and before the first newer row or void
//! that hides it whole. A void stays while a row that it hides anything of stays. Pages never hide blocks here, though
//! sixteen of them do: a block that is kept too long costs space, one dropped too early costs content.

use keepshare_base::CommitId;

use crate::{
    index::{IndexError, Rows, Table, apply::body_users, files, keys, values::decode_u64},
    record::{Body, BodyId, Grain, PAGES_PER_BLOCK, Piece, Row},
};

/// A look through one body, some blocks at a time.
#[derive(Debug)]
pub(crate) struct Sweep {
    body: BodyId,
    /// What was asked for until when; a later ask is for another look.
    asked: CommitId,
    next_block: u64,
    /// Where in that block: the block itself is 0, its pages follow.
    next_unit: u64,
    voids: Vec<Void>,
}

#[derive(Debug)]
struct Void {
    at: CommitId,
    from: u64,
    hides: bool,
}

impl Sweep {
    /// Begins with the first body that someone asked to look through.
    pub(crate) fn begin(rows: &impl Rows) -> Result<Option<Self>, IndexError> {
        let Some((key, asked)) = rows.first_under(Table::Sweep, &[], &[])? else {
            return Ok(None);
        };
        let body = keys::body_of(Table::Sweep, key.value())?;
        let asked = CommitId(decode_u64(Table::Sweep, asked.value())?);
        let mut voids = Vec::new();
        for row in rows.under(Table::Void, &keys::body(body), &keys::body(body))? {
            let (key, from) = row?;
            let at = keys::newest_of(Table::Void, key.value())?;
            voids.push(Void { at, from: decode_u64(Table::Void, from.value())?, hides: false });
        }
        voids.sort_unstable_by_key(|void| void.at);
        Ok(Some(Self { body, asked, next_block: 0, next_unit: 0, voids }))
    }

    /// Looks through at most `blocks` blocks; returns at most `rows_max` rows that are not needed, and whether that was
    /// all.
    ///
    /// The rows must be gone before the next step.
    pub(crate) fn step(
        &mut self,
        rows: &impl Rows,
        blocks: usize,
        rows_max: usize,
    ) -> Result<(Vec<Row>, bool), IndexError> {
        let kept = self.kept(rows)?;
        let mut gone = Gone { rows: Vec::new(), max: rows_max };
        for _ in 0..blocks {
            let Some(block) = self.block_from(rows, self.next_block)? else {
                return Ok(self.end(gone));
            };
            if block > self.next_block {
                self.next_unit = 0;
            }
            self.next_block = block;
            self.block(rows, block, &kept, &mut gone)?;
            if gone.is_full() {
                return Ok((gone.rows, false));
            }
            (self.next_block, self.next_unit) = (block + 1, 0);
        }
        Ok((gone.rows, false))
    }

    /// Adds the voids that hide nothing any more and, when no more are left, that the body was looked through.
    fn end(&mut self, mut gone: Gone) -> (Vec<Row>, bool) {
        while let Some(void) = self.voids.pop() {
            if !void.hides {
                gone.rows.push(Row::VoidGone { at: void.at, body: self.body });
            }
            if gone.is_full() {
                return (gone.rows, false);
            }
        }
        gone.rows.push(Row::Swept { at: self.asked, body: self.body });
        (gone.rows, true)
    }

    /// Returns the commits whose states use the body, those that are aside too, oldest first.
    fn kept(&self, rows: &impl Rows) -> Result<Vec<CommitId>, IndexError> {
        let Some((file, _)) = body_users(rows, self.body)? else { return Ok(vec![]) };
        let mut kept = Vec::new();
        for (at, value) in files::all_states(rows, file)? {
            if *value.body.kept() == Body::Mapped(self.body) {
                kept.push(at);
            }
        }
        kept.reverse();
        Ok(kept)
    }

    /// Returns the first block at or after `from` that has rows.
    fn block_from(&self, rows: &impl Rows, from: u64) -> Result<Option<u64>, IndexError> {
        let prefix = keys::body(self.body);
        let number = |grain, from| -> Result<Option<u64>, IndexError> {
            let table = keys::table_of(grain);
            let found = rows.first_under(table, &prefix, &keys::place(self.body, from))?;
            found.map(|(key, _)| Ok(keys::read_piece(grain, key.value())?.number)).transpose()
        };
        let block = number(Grain::Block, from)?;
        let page = number(Grain::Page, from.saturating_mul(PAGES_PER_BLOCK))?;
        Ok([block, page.map(|page| page / PAGES_PER_BLOCK)].into_iter().flatten().min())
    }

    fn block(
        &mut self,
        rows: &impl Rows,
        block: u64,
        kept: &[CommitId],
        gone: &mut Gone,
    ) -> Result<(), IndexError> {
        let bases = self.commits(rows, Grain::Block, block)?;
        while self.next_unit <= PAGES_PER_BLOCK {
            if self.next_unit == 0 {
                self.unit(Grain::Block, block, &bases, &[], kept, gone);
            } else {
                let page = block * PAGES_PER_BLOCK + self.next_unit - 1;
                let pages = self.commits(rows, Grain::Page, page)?;
                self.unit(Grain::Page, page, &pages, &bases, kept, gone);
            }
            if gone.is_full() {
                // There may be more of this one: it is looked at again.
                return Ok(());
            }
            self.next_unit += 1;
        }
        Ok(())
    }

    /// Returns the commits of the rows of a block or page, oldest first.
    fn commits(
        &self,
        rows: &impl Rows,
        grain: Grain,
        number: u64,
    ) -> Result<Vec<CommitId>, IndexError> {
        let (table, prefix) = (keys::table_of(grain), keys::place(self.body, number));
        let mut commits = Vec::new();
        for row in rows.under(table, &prefix, &prefix)? {
            commits.push(keys::newest_of(table, row?.0.value())?);
        }
        commits.reverse();
        Ok(commits)
    }

    /// Judges the rows at `commits` of one block or page, over which the rows at `bases` lie where they are newer.
    fn unit(
        &mut self,
        grain: Grain,
        number: u64,
        commits: &[CommitId],
        bases: &[CommitId],
        kept: &[CommitId],
        gone: &mut Gone,
    ) {
        for (i, at) in commits.iter().enumerate() {
            let piece = Piece { body: self.body, grain, number, at: *at };
            let base = bases[bases.partition_point(|base| base <= at)..].first();
            let void = self.voids.iter().find(|void| void.at > *at && void.from <= piece.start());
            let hidden = [commits.get(i + 1), base, void.map(|void| &void.at)];
            let hidden = hidden.into_iter().flatten().min().copied().unwrap_or(CommitId::MAX);
            let seen = kept[kept.partition_point(|kept| kept < at)..].first();
            if seen.is_none_or(|seen| *seen >= hidden) {
                if gone.is_full() {
                    return;
                }
                gone.rows.push(Row::ContentGone { piece });
                continue;
            }
            let end = piece.start().saturating_add(grain.bytes());
            for void in &mut self.voids {
                void.hides |= void.at > *at && void.from < end;
            }
        }
    }
}

/// What is not needed, up to a limit.
struct Gone {
    rows: Vec<Row>,
    max: usize,
}

impl Gone {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.max
    }
}
