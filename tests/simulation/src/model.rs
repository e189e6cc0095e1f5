//! Models of both sides, small enough to be obviously right.

mod source;
mod store;
mod tree;

pub use source::ModelSource;
pub use store::{ModelStore, Record};
pub use tree::Tree;
