//! Many random lives.

use keepshare_simulation::{Plan, run};

/// How many seeds are lived by default.
const SEEDS: u64 = 1000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Whatever breaks, once everything is repaired all stations have the master's tree, nothing that was acknowledged was
/// lost on the way, nothing came twice or out of order, and nothing of an epoch that was over.
///
/// `KEEPSHARE_SEED` lives one seed, `KEEPSHARE_SEEDS` that many.
#[test]
fn after_healing_all_stations_agree() {
    let seeds = match number("KEEPSHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPSHARE_SEEDS").unwrap_or(SEEDS),
    };
    let (many, mut all) = (seeds.end - seeds.start >= SEEDS, keepshare_simulation::Seen::default());
    for seed in seeds {
        let life = std::panic::catch_unwind(|| run(seed, Plan::random(seed)));
        match life {
            Ok(seen) => all.add(&seen),
            Err(panic) => {
                println!("failed with KEEPSHARE_SEED={seed}, plan {:?}", Plan::random(seed));
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{all:?}");
    if many {
        all.check_variety();
    }
}

/// A seed that failed must fail again.
#[test]
fn one_seed_is_always_the_same_life() {
    for seed in 0..20 {
        assert_eq!(run(seed, Plan::random(seed)), run(seed, Plan::random(seed)), "seed {seed}");
    }
}
