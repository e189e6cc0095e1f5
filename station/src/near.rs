//! What somebody meant who typed a path that is not there.

use keepshare_base::{FileId, Kind, Name, SetPath};
use keepshare_versioning::View;

use crate::config::nearest;

/// How many names of a folder are compared with what was typed.
const NAMES_MAX: usize = 5000;

/// How many changes of a name are searched for what it stood for.
const CHANGES_MAX: usize = 16;

/// Returns a path that is or was there and is near to this one, or near as far as it goes.
pub(crate) fn path(view: &View, path: &SetPath) -> Option<SetPath> {
    let (mut near, mut folder, mut is_other) = (SetPath::default(), FileId::ROOT, false);
    for name in path.names() {
        let (name, target) = match target(view, folder, name) {
            Some(target) => (name.clone(), target),
            None => {
                is_other = true;
                match near_name(view, folder, name) {
                    Some(name) => {
                        let target = target(view, folder, &name)?;
                        (name, target)
                    }
                    None => break,
                }
            }
        };
        near = near.join(name);
        folder = target.0;
        if target.1 != Kind::Dir {
            break;
        }
    }
    (is_other && !near.names().is_empty()).then_some(near)
}

/// Returns what a name stands for, or stood for last.
fn target(view: &View, folder: FileId, name: &Name) -> Option<(FileId, Kind)> {
    let now = view.lookup(folder, name, view.latest()).ok().flatten();
    now.or_else(|| view.held(folder, name, CHANGES_MAX).ok()?.into_iter().flatten().next())
}

fn near_name(view: &View, folder: FileId, name: &Name) -> Option<Name> {
    let names = view.names_ever(folder, None, NAMES_MAX).ok()?;
    let small = |name: &Name| name.to_string().to_lowercase();
    let known: Vec<String> = names.iter().map(small).collect();
    let words: Vec<&str> = known.iter().map(String::as_str).collect();
    let near = nearest(&small(name), &words)?;
    let at = known.iter().position(|word| word == near)?;
    names.into_iter().nth(at)
}
