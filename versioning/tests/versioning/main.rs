//! What a store promises, on a disk that crashes, tears, fills up and rots, and on a real one.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that fails says where, and its numbers are small"
)]

mod aside;
mod burst;
mod crash;
mod damage;
mod forget;
mod full;
mod histories;
mod housekeeping;
mod identity;
mod model;
mod moments;
mod points;
mod positions;
mod real_disk;
mod refusals;
mod retention;
mod rig;
mod rollback;
mod scrub;
mod traps;
