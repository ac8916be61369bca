//! `aio device`: lists devices, and shows or measures their profiles.

use crate::args::{
    AscendArgs, CalibrateArgs, DeviceArg, DeviceCommand, DeviceListArgs, DeviceShowArgs, ModelTablesArgs, ShowForm,
};
use crate::devices::DeviceFlags;
use crate::outcome::Outcome;
use crate::profiles::{Listed, Profile, folder, path_of, profile, read};
use crate::registry::registry;
use crate::{device_kernels, devices, machine, output, signals};
use aio::backend::DeviceError;
use aio::devices::{DeviceEntry, Found, Sampler};
use aio::orchestrator::{DeviceProfile, Figure};
use anyhow::{Context, Result};

pub(crate) fn main(command: DeviceCommand) -> Result<Outcome> {
    match command {
        DeviceCommand::List(args) => list(&args)?,
        DeviceCommand::Show(args) => show(&args)?,
        DeviceCommand::Calibrate(args) => calibrate(&args)?,
        DeviceCommand::Model(args) => model(&args)?,
        DeviceCommand::Kernels(args) => device_kernels::main(&args)?,
    }
    Ok(Outcome::Fine)
}

#[cfg(feature = "ascend")]
fn model(args: &ModelTablesArgs) -> Result<()> {
    crate::model_tables::main(args)
}

#[cfg(not(feature = "ascend"))]
fn model(_: &ModelTablesArgs) -> Result<()> {
    anyhow::bail!("this build has no simulated Ascend (feature `ascend`)")
}

fn list(args: &DeviceListArgs) -> Result<()> {
    let mut rows = Vec::new();
    let ascend = AscendArgs { acl_lib: args.acl_lib.clone(), ..AscendArgs::default() };
    let flags = DeviceFlags { ascend: Some(&ascend), ..DeviceFlags::default() };
    match args.device {
        // If there is none, the error gives the reason.
        Some(device) => {
            let entry = devices::entry(device)?;
            let options = devices::options(device, flags)?;
            if args.acl_lib.is_some() {
                // A library that is named must be usable; the row of the simulated Ascend says nothing of it.
                registry().open(device.name(), &options)?;
            }
            rows.extend(found(entry, entry.list(&options)?));
        }
        None => rows.extend(all(flags)),
    }
    output::print_now(&match args.output {
        ShowForm::Md => {
            let rows: String = rows.iter().map(Listed::markdown).collect();
            format!("| device | what | threads | profile |\n| --- | --- | ---: | --- |\n{rows}")
        }
        ShowForm::Json => output::json_line(serde_json::Value::Array(rows.iter().map(Listed::json).collect())),
    })?;
    Ok(())
}

/// The rows of all devices, also of those that are unavailable.
pub(crate) fn all(flags: DeviceFlags<'_>) -> Vec<Listed> {
    let mut rows = Vec::new();
    for entry in registry().entries() {
        match entry.list(&devices::known_options(entry, flags)) {
            Ok(all) => rows.extend(found(entry, all)),
            Err(reason) => rows.push(missing(entry, &reason)),
        }
    }
    rows
}

/// One row per chip that was found for a device.
fn found(entry: &dyn DeviceEntry, all: Vec<Found>) -> Vec<Listed> {
    let row = |found: Found| {
        let profile = profile(entry, &found);
        Listed { name: found.target, what: found.chip, threads: found.threads, profile }
    };
    all.into_iter().map(row).collect()
}

/// The row of an unavailable device, with the reason.
fn missing(entry: &dyn DeviceEntry, reason: &DeviceError) -> Listed {
    Listed { name: entry.name().to_owned(), what: reason.to_string(), threads: 0, profile: Profile::NotKept }
}

fn show(args: &DeviceShowArgs) -> Result<()> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let opened = devices::open(DeviceArg::CPU, DeviceFlags::default())?;
            let entry = devices::entry(DeviceArg::CPU)?;
            let path = path_of(entry, &opened.device.target().name, opened.threads)?;
            let none = "this machine has no profile yet; `aio device calibrate` makes one";
            path.filter(|p| p.is_file()).context(none)?
        }
    };
    let profile = read(&path)?;
    output::print_now(&match args.output {
        ShowForm::Md => markdown(&profile),
        ShowForm::Json => output::json_line(serde_json::to_string(&profile)?),
    })?;
    Ok(())
}

fn markdown(p: &DeviceProfile) -> String {
    let mut out = format!(
        "{} on {} ({}), {} threads, {}, commit {}\n\n| figure | threads | median | min - max |\n| --- | ---: | ---: | ---: |\n",
        p.device, p.host, p.processor, p.threads, p.date, p.commit
    );
    let mut row = |name: String, threads: u32, f: &Figure| {
        out += &format!("| {name} | {threads} | {:.2} | {:.2} - {:.2} |\n", f.median, f.min, f.max);
    };
    for r in &p.reads {
        row(format!("read {}, {} KiB, GB/s", r.level, r.bytes >> 10), r.threads, &r.gb_s);
    }
    for peak in &p.peaks {
        row(format!("{} multiply-adds, G/s", peak.kind), peak.threads, &peak.gmac_s);
    }
    row("submission, us".to_owned(), p.threads, &p.costs.submission_us);
    row("barrier, us".to_owned(), p.threads, &p.costs.barrier_us);
    row("wake-up, us".to_owned(), p.threads, &p.costs.wake_us);
    out
}

fn calibrate(args: &CalibrateArgs) -> Result<()> {
    let opened = devices::open(args.device, DeviceFlags { isa: args.isa, threads: args.threads, ascend: None })?;
    let sampler = Sampler { repetitions: args.reps, stopped: &signals::interrupted };
    let figures = devices::measured(args.device, &opened)?.figures(&sampler)?;
    let profile = DeviceProfile {
        version: DeviceProfile::VERSION,
        host: machine::host(),
        date: machine::today(),
        device: opened.device.target().name,
        processor: opened.chip,
        threads: opened.threads,
        commit: aio::COMMIT.to_owned(),
        costs: figures.costs,
        reads: figures.reads,
        peaks: figures.peaks,
    };
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let folder = folder()?;
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let path = path_of(devices::entry(args.device)?, &profile.device, profile.threads)?;
            path.context("the device keeps no profile; --file FILE writes one")?
        }
    };
    aio::mapped::write_whole(&path, profile.to_toml().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    output::print_now(&markdown(&profile))?;
    note!("written to {}", path.display());
    Ok(())
}
