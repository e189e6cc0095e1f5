//! Many random lives of a source.

use keepshare_simulation::source::{Life, live};

/// How many seeds are lived by default.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Whatever people do while it looks, and whatever is lost or cut off: once all rests, a copy that follows the journal is the
/// folder, every version is bytes that a file held, what lay closed is a version, and a file that moved is the same file.
///
/// `KEEPSHARE_SEED` lives one seed, `KEEPSHARE_SEEDS` that many.
#[test]
fn a_copy_that_follows_becomes_the_folder() {
    let seeds = match number("KEEPSHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPSHARE_SEEDS").unwrap_or(SEEDS),
    };
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

/// A seed that failed must fail again.
#[test]
fn one_seed_is_always_the_same_life() {
    for seed in 0..20 {
        assert_eq!(live(seed, Life::random(seed)), live(seed, Life::random(seed)), "seed {seed}");
    }
}
