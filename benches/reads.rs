//! Our streaming reads beside a plain C loop's, pass by pass in turn: every share of the read bandwidth rests on them.
//!
//! Run by `benches/peers/reads`, which builds the loop and says where it is. A pass takes some milliseconds and the
//! machine's bandwidth drifts within seconds, so both see the same machine; medians of whole runs in turn do not.

use aio::cpu::{CpuDevice, CpuOptions};
use aio::orchestrator::Figure;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Bytes of each buffer: what no cache holds.
const BYTES: usize = 256 << 20;
/// Passes that do not count.
const WARM_UP: usize = 3;

/// The C loop's process: a line in is a pass, a line out its seconds.
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
    // cargo adds `--bench`.
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
        // Who goes first takes turns too.
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
