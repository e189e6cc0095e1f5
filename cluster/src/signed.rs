//! A revision with its signatures, as it travels and is kept.

use crate::{
    Document, DocumentError,
    limits::{SIGNATURE_BYTES_MAX, SIGNATURES_MAX, SIGNED_BYTES_MAX},
};

/// What is signed begins so: no other thing that the same key signs does.
const CONTEXT: &[u8] = b"keepshare cluster document v1\0";

/// A signature of the cluster's CA.
const OF_CA: u8 = 1;

/// Bytes that are no signed revision.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    /// The revision.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// There are more bytes than such a thing has.
    #[error("the signed document is too long")]
    TooLong,
    /// The signatures.
    #[error("the signatures of the document cannot be read")]
    Signatures,
}

/// A revision with its signatures, which nobody has looked at yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedDocument {
    document: Document,
    /// Whose, and the signature.
    signatures: Vec<(u8, Vec<u8>)>,
}

impl SignedDocument {
    /// Puts a revision together with the CA's signature of what [`Self::to_sign`] returned.
    pub fn new(document: Document, of_ca: Vec<u8>) -> Self {
        Self { document, signatures: vec![(OF_CA, of_ca)] }
    }

    /// Returns what is signed of a revision.
    pub fn to_sign(document: &Document) -> Vec<u8> {
        [CONTEXT, &document.encode()].concat()
    }

    /// Returns the revision, whoever signed it.
    pub fn unverified(&self) -> &Document {
        &self.document
    }

    /// Returns the revision; the signatures are left behind.
    pub fn into_unverified(self) -> Document {
        self.document
    }

    /// Returns the signature that is said to be the CA's.
    pub fn of_ca(&self) -> Option<&[u8]> {
        let of_ca = self.signatures.iter().find(|(whose, _)| *whose == OF_CA);
        of_ca.map(|(_, signature)| signature.as_slice())
    }

    /// Returns its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.document.encode();
        let count = u8::try_from(self.signatures.len()).expect("a few signatures at most");
        bytes.push(count);
        for (whose, signature) in &self.signatures {
            let length = u16::try_from(signature.len()).expect("a signature is short");
            bytes.push(*whose);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(signature);
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote; the signatures are only read, not verified.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignedError> {
        if bytes.len() > SIGNED_BYTES_MAX {
            return Err(SignedError::TooLong);
        }
        let (document, rest) = Document::take(bytes)?;
        let (count, mut rest) = rest.split_first().ok_or(SignedError::Signatures)?;
        if *count == 0 || usize::from(*count) > SIGNATURES_MAX {
            return Err(SignedError::Signatures);
        }
        let mut signatures = Vec::new();
        for _ in 0..*count {
            let (whose, after) = rest.split_first().ok_or(SignedError::Signatures)?;
            let (length, after) = after.split_first_chunk::<2>().ok_or(SignedError::Signatures)?;
            let length = usize::from(u16::from_le_bytes(*length));
            if length > SIGNATURE_BYTES_MAX || length > after.len() {
                return Err(SignedError::Signatures);
            }
            let (signature, after) = after.split_at(length);
            signatures.push((*whose, signature.to_vec()));
            rest = after;
        }
        if rest.is_empty() {
            Ok(Self { document, signatures })
        } else {
            Err(SignedError::Signatures)
        }
    }
}
