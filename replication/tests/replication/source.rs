//! A source is right when a station that follows its journal becomes the source's folder, whatever was done there, and
//! when every version it was told of once existed.

mod acts;
mod contents;
mod crashes;
mod damage;
mod edits;
mod fills;
mod journal;
mod mounts;
mod owners;
mod points;
mod problems;
mod ranges;
mod restores;
mod silent;
mod stations;
mod storms;
mod support;
