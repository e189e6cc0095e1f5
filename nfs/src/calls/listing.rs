//! Folders, part by part.
//!
//! Places come from the namespace and mean the same whatever happened since, so the verifier is constant. `.` and `..`
//! stand before everything else and have two places of their own.

use keepshare_base::Kind;
use keepshare_namespace::{Attributes, Cookie, Node};
use keepshare_nfs_wire::{
    Encoder,
    nfs3::{self, DirEntry, DirEntryPlus, DirOk, Handle, ReadDirArgs, ReadDirPlusArgs, Status},
};

use super::{fail, succeed};
use crate::{
    context::{Asking, Opened},
    handle::Sealed,
};

/// READDIR.
pub(super) fn plain(asking: Asking<'_>, args: ReadDirArgs<'_>, encoder: &mut Encoder<'_>) {
    let room =
        Room { result: bytes(asking, args.count), names: usize::MAX, an_entry: PLAIN_ENTRY_BYTES };
    list(asking, args.dir, args.cookie, room, encoder, |_, entry, encoder| {
        let ListingEntry { name, cookie, id, .. } = *entry;
        encoder.value(&Some(DirEntry { id, name, cookie }));
    });
}

/// READDIRPLUS.
pub(super) fn plus(asking: Asking<'_>, args: ReadDirPlusArgs<'_>, encoder: &mut Encoder<'_>) {
    let (result, names) = (bytes(asking, args.max_count), bytes(asking, args.dir_count));
    let room = Room { result, names, an_entry: PLUS_ENTRY_BYTES };
    list(asking, args.dir, args.cookie, room, encoder, |opened, entry, encoder| {
        let ListingEntry { name, cookie, id, known } = *entry;
        let handle = known.and_then(|(node, _)| opened.handle(node));
        let object = handle.as_ref().map(Sealed::wire);
        let attributes = known.map(|(node, attributes)| opened.shown(node, attributes));
        encoder.value(&Some(DirEntryPlus { id, name, cookie, attributes, object }));
    });
}

/// One entry on its way out.
#[derive(Clone, Copy, Debug)]
struct ListingEntry<'e> {
    name: &'e [u8],
    cookie: Cookie,
    id: u64,
    /// What else is known of it; nothing where the user may read names alone.
    known: Option<(Node, &'e Attributes)>,
}

/// What a listing may take.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Bytes of the whole result.
    result: usize,
    /// Bytes of names, ids and places alone.
    names: usize,
    /// About what one entry takes in the result.
    an_entry: usize,
}

fn list(
    asking: Asking<'_>,
    dir: Handle<'_>,
    after: Cookie,
    room: Room,
    encoder: &mut Encoder<'_>,
    append: impl Fn(&Opened<'_>, &ListingEntry<'_>, &mut Encoder<'_>),
) {
    let start = encoder.len();
    let opened = match asking.open(dir) {
        Ok(opened) => opened,
        Err(status) => return fail(encoder, status, &None::<nfs3::Attributes>),
    };
    let attributes = match opened.own_attributes() {
        Ok(attributes) => attributes,
        Err(status) => return fail(encoder, status, &None::<nfs3::Attributes>),
    };
    let shown = Some(opened.shown(opened.node, &attributes));
    if attributes.kind != Kind::Dir {
        return fail(encoder, Status::NotFolder, &shown);
    }
    succeed(encoder, &DirOk { attributes: shown, verifier: VERIFIER });
    let append =
        |entry: &ListingEntry<'_>, encoder: &mut Encoder<'_>| append(&opened, entry, encoder);
    let mut page = Page { encoder, start, room, names: 0, is_empty: true, append };
    match fill(&opened, &attributes, after, &mut page) {
        Ok(is_end) => {
            encoder.value(&None::<()>);
            encoder.value(&is_end);
        }
        Err(status) => {
            encoder.truncate(start);
            fail(encoder, status, &shown);
        }
    }
}

/// Fills a page with what comes after a place; tells whether that is all there is.
fn fill<A: Fn(&ListingEntry<'_>, &mut Encoder<'_>)>(
    opened: &Opened<'_>,
    own: &Attributes,
    mut after: Cookie,
    page: &mut Page<'_, '_, A>,
) -> Result<bool, Status> {
    if after == 0 {
        let known = Some((opened.node, own));
        if !page.add(&ListingEntry { name: b".", cookie: DOT, id: own.id, known }) {
            return page.full();
        }
        after = DOT;
    }
    if after == DOT {
        // Of a folder that cannot be searched, not even what is above it is told.
        let above = opened.lookup(b"..").ok();
        let known = above.as_ref().map(|above| (above.node, &above.attributes));
        let id = known.map_or(own.id, |(_, attributes)| attributes.id);
        if !page.add(&ListingEntry { name: b"..", cookie: DOT_DOT, id, known }) {
            return page.full();
        }
        after = DOT_DOT;
    }
    fill_with_names(opened, if after == DOT_DOT { 0 } else { after }, page)
}

fn fill_with_names<A: Fn(&ListingEntry<'_>, &mut Encoder<'_>)>(
    opened: &Opened<'_>,
    mut after: Cookie,
    page: &mut Page<'_, '_, A>,
) -> Result<bool, Status> {
    let (mut limit, mut has_names) = (page.entries_left(), false);
    loop {
        let listing = match opened.list(after, limit) {
            Ok(listing) => listing,
            // What is there goes out; the next call meets the error again.
            Err(_) if has_names => return Ok(false),
            Err(status) => return Err(status),
        };
        for listed in &listing.entries {
            let (name, cookie, id) = (&listed.name[..], listed.cookie, listed.id);
            let known = listed.attributes.as_ref().map(|attributes| (listed.node, attributes));
            if !page.add(&ListingEntry { name, cookie, id, known }) {
                return page.full();
            }
            (after, has_names) = (cookie, true);
        }
        match (listing.end, listing.entries.is_empty()) {
            (true, _) => return Ok(true),
            (false, false) => limit = page.entries_left(),
            // Nothing that this user may see was among them: look further, but not for ever.
            (false, true) if limit < ENTRIES_AT_ONCE => limit = ENTRIES_AT_ONCE,
            (false, true) => return Ok(true),
        }
    }
}

/// A result in the making.
struct Page<'p, 'b, A> {
    encoder: &'p mut Encoder<'b>,
    start: usize,
    room: Room,
    names: usize,
    is_empty: bool,
    append: A,
}

impl<A: Fn(&ListingEntry<'_>, &mut Encoder<'_>)> Page<'_, '_, A> {
    /// Adds an entry if there is room.
    fn add(&mut self, entry: &ListingEntry<'_>) -> bool {
        let names = self.names + NAME_BYTES + entry.name.len().next_multiple_of(4);
        // The first is told whatever the limit for names: without it, nobody could go on.
        if names > self.room.names && !self.is_empty {
            return false;
        }
        let mark = self.encoder.len();
        (self.append)(entry, self.encoder);
        if self.encoder.len() - self.start + END_BYTES > self.room.result {
            self.encoder.truncate(mark);
            return false;
        }
        (self.names, self.is_empty) = (names, false);
        true
    }

    fn full(&self) -> Result<bool, Status> {
        if self.is_empty { Err(Status::TooSmall) } else { Ok(false) }
    }

    /// Returns how many more entries there may be room for.
    fn entries_left(&self) -> usize {
        let used = self.encoder.len() - self.start;
        let left = self.room.result.saturating_sub(used) / self.room.an_entry;
        let names_left = self.room.names.saturating_sub(self.names) / NAME_BYTES;
        left.min(names_left).clamp(1, ENTRIES_AT_ONCE)
    }
}

/// Returns how many bytes a client asks for, as far as it gets them.
fn bytes(asking: Asking<'_>, count: u32) -> usize {
    usize::try_from(count.min(asking.transfer_max)).unwrap_or(0)
}

/// The place after `.`; the namespace leaves it to doors.
const DOT: Cookie = 1;

/// The place after `..`.
const DOT_DOT: Cookie = 2;

const VERIFIER: [u8; 8] = *b"keepshr1";

/// The bytes of an entry's id, place and name's length.
const NAME_BYTES: usize = 20;

/// The mark that no entry follows, and whether it is the end.
const END_BYTES: usize = 8;

/// About the bytes of an entry of READDIR.
const PLAIN_ENTRY_BYTES: usize = 40;

/// About the bytes of an entry of READDIRPLUS.
const PLUS_ENTRY_BYTES: usize = 176;

/// The most entries that are asked for at once: what a listing holds in memory.
const ENTRIES_AT_ONCE: usize = 4096;
