#![no_main]

use keepshare_fuzz::Target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = Target::named("tokens").expect("there is such a target");
    (target.run)(bytes);
});
