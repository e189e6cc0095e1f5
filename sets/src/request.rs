//! Names that nobody can have given anything else.

use keepshare_base::RequestId;
use keepshare_control::{Code, Failure, Outcome};

/// Names a request, or anything else that needs a name of its own.
pub(crate) fn new_request() -> Outcome<RequestId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Code::Failed, format!("there are no random numbers: {error}"))
    })?;
    Ok(RequestId(bytes))
}
