//! Many random lives of a source.

use keepshare_simulation::source::{Life, live};

use crate::seeds::seeds;

/// How many seeds are lived by default.
const SEEDS: u64 = 200;

/// Whatever people do while it looks, and whatever is lost or cut off: once all rests, a copy that follows the journal is the
/// folder, every version is bytes that a file held, what lay closed is a version, and a file that moved is the same file.
#[test]
fn a_copy_that_follows_becomes_the_folder() {
    let seeds = seeds(SEEDS, 1);
    let (many, mut changes) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        let life = std::panic::catch_unwind(|| live(seed, Life::random(seed)));
        match life {
            Ok(more) => changes += more,
            Err(panic) => {
                println!("failed with KEEPSHARE_SEED={seed}, {:?}", Life::random(seed));
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{many} lives, {changes} changes");
    assert!(changes as u64 > 20 * many, "too tame");
}

/// A folder was moved out of another one, and that one into it, between two looks of one turn: what was seen put both into each other.
#[test]
fn folders_that_move_while_they_are_looked_at_are_in_no_ring() {
    let seed = 673;
    let changes = live(seed, Life::random(seed));
    assert!(changes > 20, "too tame");
}

/// Two files exchanged their names, and one of them went on into a folder that was new: it was lost, and found as another file.
#[test]
fn a_file_that_goes_into_a_new_folder_while_another_has_its_name_is_the_same() {
    let seed = 969;
    let changes = live(seed, Life::random(seed));
    assert!(changes > 20, "too tame");
}

/// A seed that failed must fail again.
#[test]
fn one_seed_is_always_the_same_life() {
    for seed in 0..20 {
        assert_eq!(live(seed, Life::random(seed)), live(seed, Life::random(seed)), "seed {seed}");
    }
}
