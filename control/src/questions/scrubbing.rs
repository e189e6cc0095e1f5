//! Questions about scrubs.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

/// How the scrubs of sets that are kept here stand.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubShow {
    /// The set; every one where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}

/// Goes through everything once, at once, and waits for it; goes on when whoever asked goes away.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubNow {
    /// The set; every one after the other where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}

/// Has scrubs stop where they are, also after a restart.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubPause {
    /// The set; every one where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}

/// Has scrubs go on where they stopped.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubResume {
    /// The set; every one where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}
