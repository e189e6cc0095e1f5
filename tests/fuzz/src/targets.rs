//! The targets, by what they read.

pub(crate) mod config;
pub(crate) mod frames;
pub(crate) mod paths;
pub(crate) mod questions;
pub(crate) mod records;
pub(crate) mod rpc;
pub(crate) mod times;
pub(crate) mod tokens;
