//! Who asks: a logged-in user with groups.

/// A logged-in user, as rights are judged: the numbers are the server's own, never what a client claims.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Principal {
    /// The user's name.
    pub user: String,
    /// The number under which the user owns files.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
    /// The numbers of all further groups, at most [`GROUPS_MAX`].
    pub groups: Vec<u32>,
    /// The user may change files: old versions may be restored.
    pub may_write: bool,
}

/// The most groups that count.
pub const GROUPS_MAX: usize = 64;

impl Principal {
    /// Tells whether the user is in this group.
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group's files are open to who has it as the first and to who has it as a further one.
    #[test]
    fn a_user_is_in_the_first_and_in_all_further_groups() {
        let anna = Principal { uid: 7, gid: 100, groups: vec![4, 24], ..Principal::default() };
        assert!([100, 4, 24].into_iter().all(|gid| anna.is_in(gid)));
        assert!(!anna.is_in(7) && !anna.is_in(0), "the user's own number is no group");
    }
}
