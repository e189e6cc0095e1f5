//! A station's part of every set: the source that it masters, the copy that it keeps, or both.
//!
//! [`record`] is what is written down of a set, [`parts`] what runs of it: [`master`] and [`replica`] tie what looks at the
//! source folder, what keeps versions and the links between them together, and say how they are ([`checkup`], and for a person
//! [`concerns`]). [`retention`] thins what a copy keeps, [`orders`] says what others may have done in a source, [`alarms`] tells of bursts in it, [`scrub`] looks for damage. [`attention`] logs what begins and ends of that. [`asking`] answers what is asked about a set's past. Which sets there are, who else has them and who asks is
//! the station's to know; what a set needs of it is a [`SetContext`](context::SetContext).

pub mod agreed;
pub mod alarms;
pub mod asking;
pub mod attention;
mod backlog;
pub mod checkup;
pub mod concerns;
mod content;
pub mod context;
pub mod database;
pub mod dirs;
pub mod fsck;
mod hidden_names;
pub mod master;
pub mod orders;
pub mod parts;
pub mod points;
pub mod record;
pub mod reopening;
pub mod replica;
mod request;
pub mod retention;
mod rollback;
pub mod schedule;
pub mod scrub;
pub mod source_folder;
pub mod sync_tree;
mod turns;
pub mod verdicts;
mod writer;
