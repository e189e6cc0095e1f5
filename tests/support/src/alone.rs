//! A process for one test.
//!
//! What a process takes as a whole, memory above all, can be told only where nothing else runs in it.

use std::{env, process::Command};

/// Set in the process that is there for one test.
const ALONE_ENV: &str = "KEEPSHARE_TEST_ALONE";

/// Runs a test in a process of its own: this program once more, with that test alone.
///
/// `test` is what the test is called in the list of its program, modules included.
pub fn in_own_process(test: &str, body: impl FnOnce()) {
    if env::var_os(ALONE_ENV).is_some() {
        return body();
    }
    let own = env::current_exe().expect("a test knows its own path");
    let mut alone = Command::new(own);
    alone.args([test, "--exact", "--nocapture"]).env(ALONE_ENV, "1");
    let output = alone.output().expect("a program that runs can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    eprintln!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in a process of its own");
    assert!(told.contains("\nrunning 1 test\n"), "there is no test of the name {test}");
}
