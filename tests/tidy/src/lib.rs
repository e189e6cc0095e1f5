//! Holds the tree to its own rules: which crate may use which, that modules form no rings, how
//! long files may be, and what text may not stand in it.
//!
//! Everything is in `tests/`; this crate has no code of its own.
