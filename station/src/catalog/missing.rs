//! What is said of a path that is not there, or was not: why, and what may be meant.

use keepshare_base::SetPath;
use keepshare_control::{Failure, Outcome};
use keepshare_versioning::View;

use crate::near;

use super::{Catalog, read_failure};

impl Catalog {
    /// Says that something was not there at a time, and what there is instead.
    pub(super) fn not_there_then(
        &self,
        view: &View,
        path: &SetPath,
        typed: &str,
    ) -> Outcome<Failure> {
        let is_known = match path.split_last() {
            Some((folder, _)) => {
                !self.history(view, path, &folder, 1).map_err(read_failure)?.is_empty()
            }
            None => true,
        };
        if !is_known {
            return Ok(self.no_history(view, path));
        }
        let set = &self.set;
        let error = match typed {
            "latest" => format!("{set}:{path} is not there now"),
            _ => format!("{set}:{path} was not there at {typed}"),
        };
        let hint = format!("keepshare versions '{set}:{path}' lists when it was there");
        Ok(Failure::not_found(error).hint(hint))
    }

    /// Says why a path has no versions, and what may be meant.
    pub(super) fn no_history(&self, view: &View, path: &SetPath) -> Failure {
        let set = &self.set;
        if matches!(view.resolve(path, view.latest()), Ok(Some(_))) {
            return Failure::not_found(format!(
                "{set}:{path} has no version yet: the first is cut within 10 s"
            ))
            .hint("it is being written; try again in a moment");
        }
        let failure = Failure::not_found(format!("{set}:{path} is not there and never was"));
        let name = path.names().last().map(ToString::to_string).unwrap_or_default();
        let find = format!("keepshare find '{name}' looks in all folders, for deleted files too");
        match near::path(view, path) {
            Some(near) => failure.hint(format!("did you mean '{set}:{near}'? {find}")),
            None => failure.hint(find),
        }
    }
}
