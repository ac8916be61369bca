//! `aio device`: which devices there are, what they can do, and the profile that says so.

use crate::args::{CalibrateArgs, DeviceArg, DeviceCommand, DeviceListArgs, DeviceShowArgs, ShowForm};
use crate::outcome::Outcome;
use crate::profiles::{Listed, Profile, figure, folder, profile, profile_path, read};
use crate::{machine, models, output};
use aio::backend::Device;
use aio::cpu::isa::Isa;
use aio::cpu::probe::Probe;
use aio::cpu::{CpuDevice, IsaLevel};
use aio::orchestrator::{Costs, DeviceProfile, Figure, Peak, ReadLevel};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;

pub(crate) fn main(command: DeviceCommand) -> Result<Outcome> {
    match command {
        DeviceCommand::List(args) => list(&args)?,
        DeviceCommand::Show(args) => show(&args)?,
        DeviceCommand::Calibrate(args) => calibrate(&args)?,
        #[cfg(feature = "cuda")]
        DeviceCommand::Kernels(args) => crate::cuda::kernels(&args)?,
    }
    Ok(Outcome::Fine)
}

fn list(args: &DeviceListArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut devices = Vec::new();
    #[cfg(feature = "cuda")]
    if args.device == Some(DeviceArg::Cuda) {
        // The reason, if there is none, is the error.
        aio::cuda::CudaDevice::probe()?;
    }
    for level in IsaLevel::ALL.into_iter().rev().filter(|&l| Isa::at(l).is_some()) {
        let name = format!("cpu-{}", level.name());
        let profile = profile(&name, cores)?;
        devices.push(Listed { name, what: machine::processor(), threads: cores, profile });
    }
    #[cfg(feature = "cuda")]
    devices.push(crate::cuda::listed()?);
    let oracle = "the scalar oracle".to_owned();
    devices.push(Listed { name: "interp".to_owned(), what: oracle, threads: 1, profile: Profile::NotKept });
    if let Some(one) = args.device {
        let name = one.to_possible_value().expect("no device is hidden").get_name().to_owned();
        devices.retain(|d| d.name.split('-').next() == Some(&name));
    }
    output::print_now(&match args.output {
        ShowForm::Md => {
            let rows: String = devices.iter().map(Listed::markdown).collect();
            format!("| device | what | threads | profile |\n| --- | --- | ---: | --- |\n{rows}")
        }
        ShowForm::Json => output::json_line(serde_json::Value::Array(devices.iter().map(Listed::json).collect())),
    })?;
    Ok(())
}

fn show(args: &DeviceShowArgs) -> Result<()> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let device = models::cpu(None, None)?;
            let path = profile_path(&device.target().name, device.threads())?;
            if !path.is_file() {
                bail!("this machine has no profile yet; `aio device calibrate` makes one");
            }
            path
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
    let profile = match args.device {
        DeviceArg::Cpu => measure(&models::cpu(args.isa, args.threads)?, args.reps)?,
        #[cfg(feature = "cuda")]
        DeviceArg::Cuda => crate::cuda::profile(args.reps)?,
        DeviceArg::Interp => bail!("the oracle is not built for speed and has no profile"),
    };
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let folder = folder()?;
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            profile_path(&profile.device, profile.threads as usize)?
        }
    };
    aio::mapped::write_whole(&path, profile.to_toml().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    output::print_now(&markdown(&profile))?;
    note!("written to {}", path.display());
    Ok(())
}

/// A level's name and the bytes of its working set: half a cache, so that it stays there; and memory, four times the
/// largest cache.
fn working_sets(threads: usize) -> Vec<(String, u64)> {
    let caches = machine::caches();
    // First- and second-level caches belong to a core, so each thread adds one.
    let own = |level: u32| if level < 3 { threads as u64 } else { 1 };
    let mut sets: Vec<_> = caches.iter().map(|&(l, bytes)| (format!("L{l}"), own(l) * bytes / 2)).collect();
    let largest = caches.iter().map(|c| c.1).max().unwrap_or(64 << 20);
    sets.push(("memory".to_owned(), (4 * largest).clamp(256 << 20, 2 << 30)));
    sets
}

/// Bytes that one timing of a working set reads at least.
const TIMED_BYTES: u64 = 64 << 20;

fn measure(device: &CpuDevice, reps: u32) -> Result<DeviceProfile> {
    let (probe, threads) = (device.probe(), device.threads());
    let counts: Vec<usize> = if threads == 1 { vec![1] } else { vec![1, threads] };
    let mut reads = Vec::new();
    for &count in &counts {
        for (level, bytes) in working_sets(count) {
            let gb_s = read_level(&probe, bytes, count, reps)?;
            reads.push(ReadLevel { level, bytes, threads: count as u32, gb_s });
        }
    }
    let mut peaks = Vec::new();
    for (kind, macs) in [("int8", Probe::int8_macs as fn(&Probe, usize) -> f64), ("f32", Probe::f32_macs)] {
        for &count in &counts {
            let gmac_s = figure(reps, || macs(&probe, count) / 1e9)?;
            peaks.push(Peak { kind: kind.to_owned(), threads: count as u32, gmac_s });
        }
    }
    let costs = Costs {
        submission_us: figure(reps, || probe.submission_seconds() * 1e6)?,
        barrier_us: figure(reps, || probe.barrier_seconds() * 1e6)?,
        wake_us: figure(reps, || probe.wake_seconds() * 1e6)?,
    };
    Ok(DeviceProfile {
        version: DeviceProfile::VERSION,
        host: machine::host(),
        date: machine::today(),
        device: device.target().name,
        processor: machine::processor(),
        threads: threads as u32,
        commit: aio::COMMIT.to_owned(),
        costs,
        reads,
        peaks,
    })
}

fn read_level(probe: &Probe, bytes: u64, threads: usize, reps: u32) -> Result<Figure> {
    let buffer = probe.read_buffer(bytes as usize).with_context(|| format!("cannot allocate {bytes} bytes"))?;
    let passes = TIMED_BYTES.div_ceil(bytes).max(1) as usize;
    let read = buffer.len() as f64 * passes as f64;
    figure(reps, || read / probe.read_seconds(&buffer, threads, passes) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_larger_than_every_cache() {
        let sets = working_sets(2);
        let (last, caches) = sets.split_last().expect("memory is always there");
        assert_eq!(last.0, "memory");
        assert!(caches.iter().all(|c| c.1 < last.1));
    }
}
