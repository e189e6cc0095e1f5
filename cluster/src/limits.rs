//! How large a document may be, in all and in its parts.

/// The most bytes of a revision's body.
pub const DOCUMENT_BYTES_MAX: usize = 192 * 1024;

/// The most bytes of a revision with its signatures.
pub const SIGNED_BYTES_MAX: usize =
    HEADER_BYTES + DOCUMENT_BYTES_MAX + 1 + SIGNATURES_MAX * (3 + SIGNATURE_BYTES_MAX);

/// The most stations of a cluster.
pub const MEMBERS_MAX: usize = 256;

/// The most sets of a cluster.
pub const SETS_MAX: usize = 256;

/// The bytes before a revision's body: magic, format, length.
pub(crate) const HEADER_BYTES: usize = 10;

/// The most slots of a set.
pub(crate) const SLOTS_MAX: usize = 16;

/// The most destinations of a set.
pub(crate) const DESTINATIONS_MAX: usize = 64;

/// The most certificates of a member that have not ended.
pub(crate) const CERTIFICATES_MAX: usize = 8;

/// The most certificates that are refused though they have not ended.
pub(crate) const REVOKED_MAX: usize = 1024;

/// How many revisions before it a revision names.
pub(crate) const BEFORE_MAX: usize = 64;

/// The longest root folder, in bytes.
pub(crate) const ROOT_BYTES_MAX: usize = 4096;

/// The most signatures of a revision.
pub(crate) const SIGNATURES_MAX: usize = 8;

/// The longest signature, in bytes; ours have about 72.
pub(crate) const SIGNATURE_BYTES_MAX: usize = 512;
