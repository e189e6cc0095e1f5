//! Every file of the corpora, and seeded mutations of them.
//!
//! `KEEPSHARE_SEED` repeats a run, `KEEPSHARE_FUZZ_INPUTS` says how many inputs each target gets.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use keepshare_fuzz::{Mutator, TARGETS, Target};

/// How many mutated inputs a target gets by default, if one costs as little as most.
const INPUTS: u32 = 20_000;

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{variable}={text} is no number")))
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of each thread from now on.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            told(info);
        }));
    });
}

/// Runs one input; says which, where it breaks something. A panic that is caught on its way counts.
fn run(target: &Target, what: &str, input: &[u8]) -> bool {
    count_panics();
    let before = PANICS.get();
    let taken = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    match taken {
        Ok(taken) if PANICS.get() == before => taken,
        _ => panic!("{} is broken by {what}: b\"{}\"", target.name, input.escape_ascii()),
    }
}

/// What the encoders write is what the decoders take, or mutations of it would find nothing.
#[test]
fn what_is_written_is_read() {
    for target in TARGETS {
        for (name, bytes) in (target.examples)() {
            assert!(run(target, &name, &bytes), "{}: {name} is not read", target.name);
        }
    }
}

/// What is in the corpora stays readable: earlier builds wrote it, or it broke something once.
#[test]
fn the_corpora_break_nothing() {
    for target in TARGETS {
        let corpus = target.corpus().unwrap();
        let taken = corpus.iter().filter(|(name, bytes)| run(target, name, bytes)).count();
        let examples = (target.examples)().len();
        assert!(taken >= examples, "{}: {taken} of {} files are read", target.name, corpus.len());
    }
}

#[test]
fn mutations_break_nothing() {
    let seed = number("KEEPSHARE_SEED").unwrap_or_else(rand::random);
    let inputs = number("KEEPSHARE_FUZZ_INPUTS").unwrap_or(INPUTS);
    eprintln!("KEEPSHARE_SEED={seed}");
    for target in TARGETS {
        let corpus = target.corpus().unwrap();
        let mut mutator = Mutator::new(seed, target, &corpus);
        let (mut taken, inputs) = (0, inputs.div_ceil(target.cost));
        for input in 1..=inputs {
            let bytes = mutator.next_input();
            taken +=
                u32::from(run(target, &format!("KEEPSHARE_SEED={seed}, input {input}"), &bytes));
        }
        eprintln!("{}: {taken} of {inputs} inputs were of use", target.name);
    }
}
