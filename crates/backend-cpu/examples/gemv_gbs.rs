//! How near the packed matrix kernels come to the memory bus and to the integer units.
//!
//! Prints GB/s of the packed matrix-vector product next to a streaming read of the same buffer in
//! the same run, the time of m rows relative to one, and the multiply-adds a second of 512 rows.
//! Run by hand: `cargo run --release -p aio-backend-cpu --example gemv_gbs [TYPE] [ISA]`.

use aio_backend_cpu::activation::{ActBlock, act_blocks};
use aio_backend_cpu::isa::{Isa, IsaLevel};
use aio_backend_cpu::kernels::Kernels;
use aio_backend_cpu::kernels::matmul::{Input, MatmulArgs, Output, Weights};
use aio_backend_cpu::memory::AlignedBytes;
use aio_backend_cpu::pack::{groups_of, packed_bytes};
use aio_backend_cpu::pool::Pool;
use aio_ir::DType;
use bytemuck::Zeroable;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const THREADS: usize = 2;
const ROUNDS: usize = 15;

/// Matrices of one shape, enough of them to outgrow the caches.
struct Bench {
    dtype: DType,
    rows: usize,
    cols: usize,
    copies: Vec<AlignedBytes>,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

impl Bench {
    fn new(pool: &Pool, dtype: DType, rows: usize, cols: usize, copies: usize) -> Bench {
        let bytes = packed_bytes(dtype, rows, cols).expect("a packed form");
        let mut copies: Vec<_> = (0..copies).map(|_| AlignedBytes::zeroed(bytes)).collect();
        for copy in &mut copies {
            let start = copy.as_mut_ptr() as usize;
            let group = bytes / groups_of(rows);
            pool.run(&|worker| {
                for at in worker.share(groups_of(rows)) {
                    // SAFETY: threads fill disjoint groups of the buffer.
                    unsafe { std::ptr::write_bytes((start as *mut u8).add(at * group), 0x11, group) };
                }
            });
        }
        Bench { dtype, rows, cols, copies }
    }

    fn bytes(&self) -> f64 {
        self.copies.iter().map(|c| c.len()).sum::<usize>() as f64
    }

    /// Seconds to read every copy once.
    fn read(&self, pool: &Pool) -> f64 {
        let total = AtomicU64::new(0);
        seconds(|| {
            pool.run(&|worker| {
                for copy in &self.copies {
                    let words: &[[u64; 8]] = bytemuck::cast_slice(&copy[..copy.len() / 64 * 64]);
                    let mut sum = [0u64; 8];
                    for line in &words[worker.share(words.len())] {
                        for (s, w) in sum.iter_mut().zip(line) {
                            *s = s.wrapping_add(*w);
                        }
                    }
                    total.fetch_add(black_box(sum).iter().fold(0, |a, b| a ^ b), Ordering::Relaxed);
                    worker.barrier();
                }
            });
        })
    }

    /// Seconds to multiply every copy with `m` rows.
    fn multiply(&self, pool: &Pool, kernels: &Kernels, m: usize) -> f64 {
        let blocks = vec![ActBlock::zeroed(); act_blocks(m, self.cols)];
        let plain = vec![0f32; m * self.cols];
        let mut y = vec![0f32; m * self.rows];
        let output = Output { start: y.as_mut_ptr(), stride: self.rows };
        let input = if self.dtype.is_quantized() { Input::Quantized(&blocks) } else { Input::Plain(&plain) };
        seconds(|| {
            pool.run(&|worker| {
                for copy in &self.copies {
                    let weights = Weights { dtype: self.dtype, rows: self.rows, cols: self.cols, packed: copy };
                    let groups = worker.share(groups_of(self.rows));
                    let args = MatmulArgs { weights, input, rows: m, groups, bias: None, accumulate: false, output };
                    // SAFETY: each thread writes the columns of its own groups.
                    unsafe { kernels.matmul(&args) };
                    worker.barrier();
                }
            });
        })
    }

    fn report(&self, pool: &Pool, kernels: &Kernels) {
        let rows = [1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 17];
        let mut reads = Vec::new();
        let mut times = vec![Vec::new(); rows.len()];
        for _ in 0..ROUNDS {
            reads.push(self.read(pool));
            for (times, m) in times.iter_mut().zip(rows) {
                times.push(self.multiply(pool, kernels, m));
            }
        }
        let (read, times): (f64, Vec<f64>) = (median(reads), times.into_iter().map(median).collect());
        let gb_s = |t: f64| self.bytes() / t / 1e9;
        println!(
            "{}x{} {} x{}: read {:.1} GB/s, one row {:.1} GB/s ({:.0} %)",
            self.rows,
            self.cols,
            self.dtype,
            self.copies.len(),
            gb_s(read),
            gb_s(times[0]),
            100.0 * read / times[0]
        );
        for (m, t) in rows.into_iter().zip(&times) {
            let macs = (m * self.rows * self.cols * self.copies.len()) as f64;
            println!("  rows {m:3}: {:.2} of one row, {:.0} G multiply-adds/s", t / times[0], macs / t / 1e9);
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dtype = args.next().map_or(DType::Q4_1, |name| DType::from_name(&name).expect("a type"));
    let cap = args.next().map_or(IsaLevel::Avx512Vnni, |name| IsaLevel::from_name(&name).expect("a level"));
    let kernels = Kernels::new(Isa::detect_up_to(cap));
    let pool = Pool::new(THREADS, true).expect("threads start");
    println!("{}, {THREADS} threads, medians of {ROUNDS} rounds", kernels.isa().level());
    let cols = if dtype.block_elems() == 256 { 512 } else { 576 };
    Bench::new(&pool, dtype, 49152, cols, 4).report(&pool, &kernels);
    Bench::new(&pool, dtype, 1536, cols, 100).report(&pool, &kernels);
    for (rows, cols) in [(1536, cols), (576 / 256 * 256, 1536)] {
        let bench = Bench::new(&pool, dtype, rows, cols, 8);
        let t = median((0..ROUNDS).map(|_| bench.multiply(&pool, &kernels, 512)).collect());
        let macs = 8.0 * (512 * rows * cols) as f64;
        println!("{rows}x{cols} times 512 rows: {:.0} G multiply-adds/s", macs / t / 1e9);
    }
}
