//! Many random lives.
//!
//! `KEEPSHARE_SEED` lives one seed, in every test here and in `sources`, and `KEEPSHARE_SEEDS` that many in each. `KEEPSHARE_LIVES`
//! lives that many in all, shared out over the tests: `KEEPSHARE_LIVES=20000 tests/run -- -p keepshare-simulation` takes hours, and
//! is for whoever has changed what decides, sends or keeps.

use keepshare_simulation::{
    ModelSource, ModelStore, Plan, RealSource, RealStore, Seen, Source, Store, run,
};

/// How many seeds are lived by default.
const SEEDS: u64 = 1000;

/// How many with real stores.
const STORE_SEEDS: u64 = 60;

/// How many with real sources, over stores that are models and over real ones.
const DECIDE_SEEDS: u64 = 50;
const WHOLE_SEEDS: u64 = 50;

/// Of how many lives in all each test has so many.
const SHARES: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Returns the seeds of a test that lives `many` by default, and has `share` of [`SHARES`] otherwise.
pub(crate) fn seeds(many: u64, share: u64) -> std::ops::Range<u64> {
    if let Some(seed) = number("KEEPSHARE_SEED") {
        return seed..seed + 1;
    }
    let of_all = number("KEEPSHARE_LIVES").map(|all| all * share / SHARES);
    0..number("KEEPSHARE_SEEDS").or(of_all).unwrap_or(many)
}

/// Lives one life with this source and store.
fn live<S: Source, K: Store>(seed: u64, source: impl Fn(u64, Plan) -> S) -> Seen {
    let plan = Plan::random(seed);
    run::<S, K>(seed, plan, source(seed, plan))
}

fn model(_seed: u64, plan: Plan) -> ModelSource {
    ModelSource::new(plan.journal_limit)
}

fn real(seed: u64, plan: Plan) -> RealSource {
    RealSource::new(seed, plan.stations, plan.journal_limit)
}

/// Lives many lives.
fn lives(many: u64, share: u64, live: impl Fn(u64) -> Seen + std::panic::RefUnwindSafe) -> Seen {
    let seeds = seeds(many, share);
    let (varied, mut all) = (seeds.end - seeds.start >= many, Seen::default());
    for seed in seeds {
        match std::panic::catch_unwind(|| live(seed)) {
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
    println!("{:?}", lives(SEEDS, 8, |seed| live::<_, ModelStore>(seed, model)));
}

/// The same with the real store on disks that forget, tear and are put back: and a version stays one.
#[test]
fn after_healing_all_real_stores_agree() {
    println!("{:?}", lives(STORE_SEEDS, 4, |seed| live::<_, RealStore>(seed, model)));
}

/// The same with what really decides about a folder that people work in, over stores that are models.
#[test]
fn after_healing_all_models_show_the_folder() {
    println!("{:?}", lives(DECIDE_SEEDS, 4, |seed| live::<_, ModelStore>(seed, real)));
}

/// The same with what really decides about a folder that people work in: every station shows the folder, every version is bytes
/// that a file held, and whatever is there is a version.
#[test]
fn after_healing_all_stations_show_the_folder() {
    println!("{:?}", lives(WHOLE_SEEDS, 3, |seed| live::<_, RealStore>(seed, real)));
}

/// What a restore wrote stood at a name until the exchange was undone, and somebody saved in it.
#[test]
fn a_save_in_what_a_restore_takes_back_is_a_version() {
    live::<_, RealStore>(331, real);
}

/// A file had got a second name when a restore exchanged it, under which it went on to be saved in.
#[test]
fn what_has_another_name_is_not_lost_with_the_one_in_the_private_folder() {
    live::<_, RealStore>(2638, real);
}

/// A seed that failed must fail again.
#[test]
fn one_seed_is_always_the_same_life() {
    for seed in 0..20 {
        let life = || live::<_, ModelStore>(seed, model);
        assert_eq!(life(), life(), "seed {seed}");
    }
    for seed in 0..5 {
        let life = || live::<_, RealStore>(seed, real);
        assert_eq!(life(), life(), "seed {seed}");
    }
}
