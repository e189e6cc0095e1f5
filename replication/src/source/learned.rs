//! What the map notes of a file after a look at its attributes.

use keepshare_base::{FileId, Meta};

use super::{
    map::{FileRecord, Signature},
    owners::Owners,
};

impl FileRecord {
    /// Takes what was seen of a file, and tells whether its attributes differ; `meta` is what they are, names included.
    pub(crate) fn learn(
        &mut self,
        owners: &mut Owners,
        file: FileId,
        meta: &mut Meta,
        signature: Signature,
    ) -> bool {
        owners.keep(meta, &self.meta);
        owners.note(file, meta);
        let differs = *meta != self.meta;
        if differs {
            self.meta = meta.clone();
        }
        self.signature = signature;
        differs
    }
}
