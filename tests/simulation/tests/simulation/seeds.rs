//! Many random lives.

use keepshare_simulation::{ModelSource, ModelStore, Plan, RealStore, Seen, Store, run};

/// How many seeds are lived by default.
const SEEDS: u64 = 1000;

/// How many with real stores.
const REAL_SEEDS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Lives one life with this store.
fn live<K: Store>(seed: u64) -> Seen {
    let plan = Plan::random(seed);
    run::<_, K>(seed, plan, ModelSource::new(plan.journal_limit))
}

/// Lives many lives, or the one of `KEEPSHARE_SEED`; `KEEPSHARE_SEEDS` says how many.
fn lives<K: Store>(many: u64) -> Seen {
    let seeds = match number("KEEPSHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPSHARE_SEEDS").unwrap_or(many),
    };
    let (varied, mut all) = (seeds.end - seeds.start >= many, Seen::default());
    for seed in seeds {
        match std::panic::catch_unwind(|| live::<K>(seed)) {
            Ok(seen) => all.add(&seen),
            // What went wrong was said already.
            Err(_) => panic!("failed with KEEPSHARE_SEED={seed}, plan {:?}", Plan::random(seed)),
        }
    }
    if varied {
        all.check_variety();
    }
    all
}

/// Whatever breaks, once everything is repaired all stations have the master's tree, nothing that was acknowledged was
/// lost on the way, nothing came twice or out of order, and nothing of an epoch that was over.
#[test]
fn after_healing_all_stations_agree() {
    println!("{:?}", lives::<ModelStore>(SEEDS));
}

/// The same with the real store on disks that forget, tear and are put back: and a version stays one.
#[test]
fn after_healing_all_real_stores_agree() {
    println!("{:?}", lives::<RealStore>(REAL_SEEDS));
}

/// A seed that failed must fail again.
#[test]
fn one_seed_is_always_the_same_life() {
    for seed in 0..20 {
        assert_eq!(live::<ModelStore>(seed), live::<ModelStore>(seed), "seed {seed}");
    }
}
