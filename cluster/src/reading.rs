//! A revision read from bytes that anybody may have written.

use crate::{
    Document, RuleError,
    document::{FORMAT, MAGIC},
    limits::{DOCUMENT_BYTES_MAX, HEADER_BYTES},
};

/// Bytes that are no revision of the document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// They begin with something else.
    #[error("this is no document of a cluster")]
    Magic,
    /// A later build wrote them.
    #[error("the document has format {0}, which this build does not know")]
    Format(u16),
    /// There are more or fewer than their header says, or more than a document has.
    #[error("the document is cut off, or longer than it says or may be")]
    Length,
    /// The body cannot be read.
    #[error("the document cannot be read")]
    Body(#[source] postcard::Error),
    /// The body is written in another way than the one there is.
    #[error("the document is not in the form that there is one of")]
    Form,
    /// What it says breaks a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl Document {
    /// Reads a revision; the bytes behind it are returned too.
    pub(crate) fn take(bytes: &[u8]) -> Result<(Self, &[u8]), DocumentError> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(DocumentError::Magic)?;
        if *magic != MAGIC {
            return Err(DocumentError::Magic);
        }
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(DocumentError::Length)?;
        match u16::from_le_bytes(*format) {
            FORMAT => {}
            other => return Err(DocumentError::Format(other)),
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(DocumentError::Length)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > DOCUMENT_BYTES_MAX || length > rest.len() {
            return Err(DocumentError::Length);
        }
        let (body, rest) = rest.split_at(length);
        let document: Self = postcard::from_bytes(body).map_err(DocumentError::Body)?;
        document.check()?;
        if document.encode()[HEADER_BYTES..] != *body {
            return Err(DocumentError::Form);
        }
        Ok((document, rest))
    }

    /// Reads a revision, of which nothing may be left.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        match Self::take(bytes)? {
            (document, []) => Ok(document),
            _ => Err(DocumentError::Length),
        }
    }
}
