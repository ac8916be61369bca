//! Compares our streaming reads, the basis of all bandwidth shares, with a plain C loop, alternating pass by pass.
//!
//! Run by `benches/peers/reads`, which builds the loop and passes its path. A pass takes a few milliseconds, while the
//! machine's bandwidth drifts within seconds, so only alternating passes see the same conditions; alternating runs
//! would not.

use aio::cpu::{CpuDevice, CpuOptions};
use aio::orchestrator::Figure;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Size in bytes of each buffer; larger than any cache.
const BYTES: usize = 256 << 20;
/// Passes that are not counted.
const WARM_UP: usize = 3;

/// The C loop's process: for each line of input it runs a pass and prints the seconds.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(program: &str, threads: usize) -> std::io::Result<Peer> {
        let mut command = Command::new(program);
        command.args([BYTES.to_string(), threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (ask, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Ok(Peer { child, ask, answers: BufReader::new(answers) })
    }

    fn pass(&mut self) -> std::io::Result<f64> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().map_err(|_| std::io::Error::other(format!("the loop said {line:?}")))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [program, threads, passes] = &args[..] else {
        println!("reads: nothing to compare with; see benches/peers/reads");
        return Ok(());
    };
    let (threads, passes): (usize, usize) = (threads.parse()?, passes.parse()?);
    let device = CpuDevice::new(CpuOptions { threads, ..CpuOptions::default() })?;
    let probe = device.probe();
    let buffer = probe.read_buffer(BYTES).ok_or("no memory")?;
    let mut peer = Peer::start(program, threads)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pass in 0..WARM_UP + passes {
        // Alternate which one goes first, too.
        let early = if pass % 2 == 0 { Some(peer.pass()?) } else { None };
        let own = probe.read_seconds(&buffer, threads, 1);
        let other = early.map_or_else(|| peer.pass(), Ok)?;
        if pass >= WARM_UP {
            ours.push(BYTES as f64 / own / 1e9);
            theirs.push(BYTES as f64 / other / 1e9);
            ratios.push(other / own);
        }
    }
    drop(peer.ask);
    peer.child.wait()?;
    for (what, samples) in [("aio GB/s", ours), ("C loop GB/s", theirs), ("ratio", ratios)] {
        let f = Figure::of(&samples).ok_or("no passes")?;
        println!("{what}: {:.3} ({:.3} - {:.3})", f.median, f.min, f.max);
    }
    Ok(())
}
