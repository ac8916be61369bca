//! The command line. Parses arguments and dispatches to the subcommand's file.
//!
//! Exit status: 0 success, 1 a check failed, 2 an error, 128 plus the signal's number after SIGTERM and SIGHUP. A
//! closed pipe is not an error.

/// Prints a line to stderr. Unlike `eprintln!`, does not panic if stderr is closed.
macro_rules! note {
    () => { $crate::output::note_same_line("\n") };
    ($($arg:tt)*) => { $crate::output::note_same_line(&format!("{}\n", format_args!($($arg)*))) };
}

mod allocations;
mod args;
mod bench;
mod cache;
mod compile;
mod content;
mod costs;
mod device;
mod device_kernels;
mod devices;
mod doctor;
mod editor;
mod escape;
mod fetch;
mod fleet;
mod folders;
mod gguf;
mod graph;
mod graph_buckets;
mod graph_device;
mod graph_diff;
mod graph_job;
mod graph_memory;
mod graph_ops;
mod graph_run;
mod graph_shrink;
mod graph_source;
mod input;
mod inspect;
mod kernels;
mod machine;
#[cfg(feature = "ascend")]
mod model_tables;
mod models;
mod npy;
mod outcome;
mod output;
mod perplexity;
mod profiles;
mod program;
mod pull;
mod regime;
mod registry;
mod route;
mod run;
mod scratch;
mod section;
mod signals;
mod simulate;
mod speculate;
mod store;
mod stream;
mod summary;
mod synth;
mod table;
mod trace;

use args::Command;
use outcome::Outcome;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        // Help and version are not errors.
        Err(e) if !e.use_stderr() => {
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            output::note_same_line(&e.render().to_string());
            return ExitCode::from(2);
        }
    };
    signals::install();
    let outcome = match args.command {
        Command::Pull(a) => pull::main(a),
        Command::Run(a) => run::main(a),
        Command::Perplexity(a) => perplexity::main(a),
        Command::Compile(a) => compile::main(*a),
        Command::Cache(a) => cache::main(a),
        Command::Gguf(a) => gguf::main(a),
        Command::Graph(a) => graph::main(a),
        Command::Kernels(a) => kernels::main(*a),
        Command::Synth(a) => synth::main(a),
        Command::Bench(a) => bench::main(*a),
        Command::Device(a) => device::main(a),
        Command::Doctor(a) => doctor::main(&a),
        Command::Trace(a) => trace::main(a),
        Command::Simulate(a) => simulate::main(&a),
        Command::Regime(a) => regime::main(&a),
        Command::Route(a) => route::main(&a),
    };
    let status = status(outcome);
    signals::ended_by().map_or(status, |signal| ExitCode::from(128 + signal as u8))
}

fn status(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            note!("error: {}", output::describe(&e));
            ExitCode::from(2)
        }
    }
}
