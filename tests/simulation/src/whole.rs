//! The real things on both sides: what decides over a folder that people work in, and the store with its index.

mod live;
mod restoring;
mod source;
mod store;

pub use source::RealSource;
pub use store::RealStore;
