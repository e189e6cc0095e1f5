//! What a question is.

use serde::{Serialize, de::DeserializeOwned};

use crate::caller::Callers;

/// The version of this conversation. Who says one, with [`VERSION_HEADER`], says this one: the command and the running
/// station may differ for a moment in an upgrade.
pub const API_VERSION: u16 = 3;

/// The header of a question that says [`API_VERSION`].
pub const VERSION_HEADER: &str = "keepshare-api";

/// Something that can be asked.
pub trait Question: Serialize + DeserializeOwned + Send + 'static {
    /// What it is answered with, once or many times.
    type Item: Serialize + DeserializeOwned + Send + 'static;

    /// Its name, the last part of its path.
    const NAME: &'static str;

    /// Who may ask it besides admins.
    const CALLERS: Callers;

    /// It changes something.
    const CHANGES: bool;
}

/// A question as it is listed in [`crate::questions::ALL`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: &'static str,
    /// Who may ask it besides admins.
    pub callers: Callers,
    /// It changes something.
    pub changes: bool,
}
