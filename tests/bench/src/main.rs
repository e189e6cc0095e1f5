//! How fast Keepshare replicates, beside rsync, and serves its drive, beside nfs-ganesha, in one run.
//!
//! Every work does the same to both and reports what each took. It measures, it never judges: promises with numbers in
//! bytes are tests, times are for people who compare runs.

mod churn;
mod edit;
mod mirror;
mod nfs;
mod page;
mod peer;
mod rename;
mod report;
mod rig;
mod scale;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Parser;

use crate::{report::Report, rig::Place};

/// Measure Keepshare beside rsync and nfs-ganesha.
#[derive(Debug, Parser)]
#[command(name = "keepshare-bench", max_term_width = 100)]
struct Args {
    /// Make every tree and file smaller or larger
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Do only these works, by name
    #[arg(long, value_delimiter = ',', value_name = "WORK")]
    only: Vec<String>,
    /// Where to work in memory
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    dir: PathBuf,
    /// Where to work on a disk [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    disk_dir: Option<PathBuf>,
    /// Print one JSON object per measure
    #[arg(long)]
    json: bool,
}

/// A work to measure.
type Work = fn(&Place, &mut Report) -> Result<()>;

const WORKS: [(&str, Work); 10] = [
    ("edit", edit::measure),
    ("page", page::measure),
    ("page-xfs", page::measure_known),
    ("mirror-small", mirror::measure_small),
    ("mirror-large", mirror::measure_large),
    ("disk", mirror::measure_disk),
    ("rename", rename::measure),
    ("churn", churn::measure),
    ("scale", scale::measure),
    ("nfs", nfs::measure),
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.only.iter().find(|name| WORKS.iter().all(|(n, _)| n != name)) {
        let known: Vec<&str> = WORKS.iter().map(|(name, _)| *name).collect();
        bail!("there is no work '{unknown}'; there are {}", known.join(", "));
    }
    let memory = Place { dir: args.dir.clone(), scale: args.scale };
    let disk_dir = args.disk_dir.clone().unwrap_or_else(env::temp_dir);
    let disk = Place { dir: disk_dir, scale: args.scale };
    let mut report = Report::new(args.json);
    for (name, measure) in WORKS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("{name} …");
        let place = if name == "disk" { &disk } else { &memory };
        if let Err(error) = measure(place, &mut report) {
            // The other works still say something.
            report.failed(name, &error)?;
        }
    }
    report.finish()
}
