//! What is wrong with a machine for this work, and what to do about it. Used by `aio doctor`.

use super::machine::Machine;
use serde::Serialize;

/// Memory below which few models fit.
const LITTLE: u64 = 1 << 30;
/// Load beyond the processors that this process may use, from which others take a good part of them.
const BUSY: f64 = 0.5;

/// A fault, and its cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    /// A word for programs.
    pub kind: &'static str,
    /// What is wrong.
    pub fault: String,
    /// What to do.
    pub advice: &'static str,
}

/// What a build and its devices have to say beside the machine.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Whether it was built without optimisation.
    pub debug: bool,
    /// Whether the processor has a profile.
    pub profiled: bool,
    /// Why there is no cache folder, if there is none.
    pub no_cache: Option<String>,
}

/// All warnings.
pub(crate) fn warnings(machine: &Machine, program: &Program) -> Vec<Warning> {
    let warn = |kind, fault: String, advice| Some(Warning { kind, fault, advice });
    let usable = machine.quota.map_or(machine.allowed as f64, |quota| quota.min(machine.allowed as f64));
    let all = [
        program.debug.then(|| Warning {
            kind: "debug-build",
            fault: "this program was built without optimisation".to_owned(),
            advice: "build it with `cargo build --release`",
        }),
        machine.quota.filter(|quota| *quota < machine.allowed as f64).and_then(|quota| {
            let fault = format!("the control group may use {quota:.1} of the {} processors", machine.allowed);
            warn("quota", fault, "use as many threads as that (`--threads`), or raise the limit (`cpu.max`)")
        }),
        machine.throttled.filter(|(throttled, periods)| throttled * 20 > *periods).and_then(|(throttled, periods)| {
            let fault = format!("its time was used up in {throttled} of {periods} periods");
            warn("throttled", fault, "use fewer threads, or raise the limit (`cpu.max`)")
        }),
        (machine.allowed < machine.processors).then(|| Warning {
            kind: "affinity",
            fault: format!("this process may use {} of {} processors", machine.allowed, machine.processors),
            advice: "start it without `taskset` or a container's cpuset, unless that is meant",
        }),
        machine.load.filter(|load| *load > BUSY * usable.max(1.0)).and_then(|load| {
            let fault = format!("others keep {load:.1} processors busy, and there are {usable:.1}");
            warn("busy", fault, "measure when the machine is quiet")
        }),
        machine.governor.as_deref().filter(|g| *g == "powersave").and_then(|_| {
            warn("governor", "the clock's governor is powersave".to_owned(), "`cpupower frequency-set -g performance`")
        }),
        machine.huge_pages.as_deref().filter(|when| *when == "never").and_then(|_| {
            let advice = "write madvise to /sys/kernel/mm/transparent_hugepage/enabled";
            warn("huge-pages", "memory is never backed by huge pages".to_owned(), advice)
        }),
        machine.available.filter(|bytes| *bytes < LITTLE).and_then(|bytes| {
            let fault = format!("{} MB of memory are available", bytes / 1_000_000);
            warn("memory", fault, "end other programs, or raise the container's limit")
        }),
        machine.swapped.filter(|bytes| *bytes > LITTLE).and_then(|bytes| {
            let fault = format!("{:.1} GB are swapped out", bytes as f64 / 1e9);
            warn("swap", fault, "weights that are swapped out are read from disk: end other programs")
        }),
        program.no_cache.clone().and_then(|fault| {
            let advice = "set HOME, or XDG_CACHE_HOME, to a folder to which only you can write";
            warn("cache-folder", fault, advice)
        }),
        // Without a folder, there is nowhere to keep it.
        (!program.profiled && program.no_cache.is_none()).then(|| Warning {
            kind: "profile",
            fault: "the processor's bandwidth was never measured, so plans start from guesses".to_owned(),
            advice: "`aio device calibrate`",
        }),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Program = Program { debug: false, profiled: true, no_cache: None };

    fn machine() -> Machine {
        let memory = Some(64 << 30);
        Machine {
            processors: 8,
            cores: 4,
            allowed: 8,
            load: Some(0.3),
            memory,
            available: memory,
            ..Machine::default()
        }
    }

    fn kinds(machine: &Machine, program: Program) -> Vec<&'static str> {
        warnings(machine, &program).into_iter().map(|w| w.kind).collect()
    }

    #[test]
    fn a_sound_machine_has_no_warnings_and_each_fault_has_one() {
        assert!(kinds(&machine(), FINE).is_empty());
        let huge_pages = |when: &str| Machine { huge_pages: Some(when.to_owned()), ..machine() };
        let governor = |name: &str| Machine { governor: Some(name.to_owned()), ..machine() };
        for (bad, kind) in [
            (Machine { quota: Some(2.0), ..machine() }, "quota"),
            (Machine { throttled: Some((50, 200)), ..machine() }, "throttled"),
            (Machine { allowed: 2, ..machine() }, "affinity"),
            (Machine { load: Some(7.0), ..machine() }, "busy"),
            (Machine { available: Some(1 << 20), ..machine() }, "memory"),
            (Machine { swapped: Some(4 << 30), ..machine() }, "swap"),
            (huge_pages("never"), "huge-pages"),
            (governor("powersave"), "governor"),
        ] {
            assert_eq!(kinds(&bad, FINE), [kind]);
        }
        for good in [
            huge_pages("madvise"),
            governor("schedutil"),
            Machine { quota: Some(16.0), ..machine() },
            Machine { throttled: Some((1, 200)), ..machine() },
        ] {
            assert!(kinds(&good, FINE).is_empty(), "{good:?}");
        }
        assert_eq!(kinds(&machine(), Program { debug: true, profiled: false, ..FINE }), ["debug-build", "profile"]);
        let homeless = Program { profiled: false, no_cache: Some("there is none".to_owned()), ..FINE };
        assert_eq!(kinds(&machine(), homeless), ["cache-folder"]);
    }
}
