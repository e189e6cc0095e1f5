//! The program under test: the real `keepshare`, built once.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::tools;

/// Names a finished binary to test instead of building one.
pub const BINARY_ENV: &str = "KEEPSHARE_BIN";

/// Returns the program to test: the one that [`BINARY_ENV`] names, else one built with the profile of these tests.
pub fn keepshare() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow!("there is no keepshare to test: {error}"))
}

fn find() -> Result<PathBuf> {
    if let Some(named) = env::var_os(BINARY_ENV) {
        let path = PathBuf::from(named).canonicalize().context("the named binary")?;
        ensure!(path.is_file(), "{} is not a file", path.display());
        return Ok(path);
    }
    let (folder, profile) = own_profile()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "keepshare-cli", "--profile", &profile]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    tools::run(&mut build)?;
    let path = folder.join("keepshare");
    ensure!(path.is_file(), "cargo built no {}", path.display());
    Ok(path)
}

/// Returns the folder that holds the binaries of the running test's profile, and the profile's name.
fn own_profile() -> Result<(PathBuf, String)> {
    let own = env::current_exe().context("a test knows its own path")?;
    let mut folder = own.parent().context("a test lies in a folder")?;
    if folder.file_name().is_some_and(|name| name == "deps") {
        folder = folder.parent().context("deps lies in a profile's folder")?;
    }
    let name = folder.file_name().and_then(|name| name.to_str()).context("a profile has a name")?;
    let profile = if name == "debug" { "dev" } else { name };
    Ok((folder.to_owned(), profile.to_owned()))
}
