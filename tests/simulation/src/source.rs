//! A master's source from one seed: everything that decides, over a folder that people work in.
//!
//! The folder is a model (`folder`): its names move while they are looked at, its numbers are given again, what is told of it
//! comes late or is lost. What decides is the real thing (`keepshare_decide`), over a map and a journal in memory that forget
//! a turn which a crash cut off. What was journaled is followed by a copy that knows nothing of how it came about
//! (`copy`), and held to what the folder held (`life`).

mod copy;
pub(crate) mod engine;
pub(crate) mod folder;
mod life;
pub(crate) mod survey;

pub use life::{Life, live};
