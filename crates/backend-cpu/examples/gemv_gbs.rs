//! How near the packed matrix kernels come to the memory bus and to the integer units.
//!
//! Prints GB/s of the packed matrix-vector product next to a streaming read of the same buffer in
//! the same run, the time of m rows relative to one, and the multiply-adds a second of 512 rows.
//! Run by hand: `cargo run --release -p aio-backend-cpu --example gemv_gbs [TYPE] [ISA] [THREADS]`.

use aio_backend_cpu::activation::{ActBlock, act_blocks};
use aio_backend_cpu::isa::{Isa, IsaLevel};
use aio_backend_cpu::kernels::Kernels;
use aio_backend_cpu::kernels::attend::*;
use aio_backend_cpu::kernels::matmul::{Input, MatmulArgs, Output, Weights};
use aio_backend_cpu::memory::AlignedBytes;
use aio_backend_cpu::pack::{groups_of, packed_bytes};
use aio_backend_cpu::pool::Pool;
use aio_ir::DType;
use bytemuck::Zeroable;
use half::f16;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const ROUNDS: usize = 40;

/// Matrices of one shape, enough of them to outgrow the caches.
struct Bench {
    dtype: DType,
    rows: usize,
    cols: usize,
    copies: Vec<AlignedBytes>,
}

/// The best round: on a machine that others use too, medians measure the others.
fn best(times: Vec<f64>) -> f64 {
    times.into_iter().fold(f64::INFINITY, f64::min)
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
        pool.run(&|_| {});
        seconds(|| {
            pool.run(&|worker| {
                for copy in &self.copies {
                    let weights = Weights { dtype: self.dtype, rows: self.rows, cols: self.cols, packed: copy };
                    let groups = worker.share(groups_of(self.rows));
                    let args = MatmulArgs { weights, input, rows: m, groups, bias: None, residual: None, output };
                    // SAFETY: each thread writes the columns of its own groups.
                    unsafe { kernels.matmul(&args) };
                    worker.barrier();
                }
            });
        })
    }

    /// One line a row count: time relative to one row, and what of the two floors was reached.
    fn report(&self, pool: &Pool, kernels: &Kernels) {
        let rows = [1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 17, 64];
        let (mut reads, mut peaks) = (Vec::new(), Vec::new());
        let mut times = vec![Vec::new(); rows.len()];
        for _ in 0..ROUNDS {
            reads.push(self.read(pool));
            peaks.push(int8_seconds(pool));
            for (times, m) in times.iter_mut().zip(rows) {
                times.push(self.multiply(pool, kernels, m));
            }
        }
        let (read, times): (f64, Vec<f64>) = (best(reads), times.into_iter().map(best).collect());
        let gb_s = |t: f64| self.bytes() / t / 1e9;
        let mac_seconds = best(peaks) / (INT8_MACS * pool.threads() as f64);
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
            let floor = read.max(macs * mac_seconds);
            println!(
                "  rows {m:3}: {:.2} of one row, {:.0} G multiply-adds/s of {:.0}, floor / time {:.2}",
                t / times[0],
                macs / t / 1e9,
                1e-9 / mac_seconds,
                floor / t
            );
        }
    }
}

/// Multiply-adds of `int8_seconds`, each thread.
const INT8_MACS: f64 = 64.0 * 16.0 * INT8_TURNS as f64;
const INT8_TURNS: usize = 50_000;

/// Seconds of a loop of 8-bit dot products on registers, the machine's integer peak.
fn int8_seconds(pool: &Pool) -> f64 {
    seconds(|| {
        pool.run(&|_| {
            #[cfg(target_arch = "x86_64")]
            if Isa::at(IsaLevel::Avx512Vnni).is_some() {
                // SAFETY: the machine has VNNI.
                unsafe { int8_loop() };
            }
        });
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_loop() {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); 16];
    let x = black_box(_mm512_set1_epi32(0x0102_0304));
    for _ in 0..INT8_TURNS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    black_box(sums);
}

/// Time of one layer's attention at a depth, default model's shape, and its GB/s of pages.
fn attention(pool: &Pool, kernels: &Kernels, depth: usize, rows: usize) {
    let (kv_heads, q_heads, head_dim) = (3, 9, 64);
    let layers = 3;
    let count = depth.div_ceil(PAGE_POSITIONS);
    let elems = 2 * kv_heads * PAGE_POSITIONS * head_dim;
    let mut memory = vec![f16::from_f32(0.5); elems * count * layers];
    let start = memory.as_mut_ptr() as usize;
    let pages: Vec<u32> = (0..count as u32).collect();
    let positions: Vec<u32> = (0..rows).map(|r| (depth - rows + r) as u32).collect();
    let q = vec![0.1f32; rows * q_heads * head_dim];
    let rule = AttendRule { scale: 0.125, window: None, soft_cap: None };
    let splits = depth.div_ceil(SPLIT_POSITIONS);
    let mut buffer = vec![0f32; partials_len(rows, q_heads, splits, head_dim)];
    let partials = Partials { start: buffer.as_mut_ptr(), splits };
    let once = || {
        seconds(|| {
            pool.run(&|worker| {
                let mut scratch = vec![0f32; ATTEND_SCRATCH_LEN];
                for layer in 0..layers {
                    let start = start as *mut f16;
                    let kv = KvLayer { start: start.wrapping_add(layer * count * elems), kv_heads, head_dim };
                    for item in worker.share(kv_heads * splits) {
                        let args = AttendArgs {
                            kv,
                            pages: &pages,
                            positions: &positions,
                            q: &q,
                            q_heads,
                            kv_head: item % kv_heads,
                            split: item / kv_heads,
                            rule,
                            partials,
                            scratch: &mut scratch,
                        };
                        // SAFETY: nobody writes pages; each item has its own partial results.
                        unsafe { kernels.attend(args) };
                    }
                    worker.barrier();
                }
            });
        })
    };
    let t = best((0..ROUNDS).map(|_| once()).collect());
    let bytes = (2 * kv_heads * head_dim * depth * layers * 2) as f64;
    println!("attention depth {depth}, {rows} rows, {layers} layers: {:.2} ms, {:.1} GB/s", t * 1e3, bytes / t / 1e9);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dtype = args.next().map_or(DType::Q4_1, |name| DType::from_name(&name).expect("a type"));
    let cap = args.next().map_or(IsaLevel::Avx512Vnni, |name| IsaLevel::from_name(&name).expect("a level"));
    let kernels = Kernels::new(Isa::detect_up_to(cap));
    let threads = args.next().map_or(2, |n| n.parse().expect("a number"));
    let pool = Pool::new(threads, true).expect("threads start");
    println!("{}, {threads} threads, best of {ROUNDS} rounds", kernels.isa().level());
    let cols = if dtype.block_elems() == 256 { 512 } else { 576 };
    Bench::new(&pool, dtype, 49152, cols, 2).report(&pool, &kernels);
    Bench::new(&pool, dtype, 1536, cols, 60).report(&pool, &kernels);
    // In the second-level cache: the integer units alone.
    Bench::new(&pool, dtype, 1536, cols, 1).report(&pool, &kernels);
    for (rows, cols) in [(1536, cols), (576 / 256 * 256, 1536)] {
        let bench = Bench::new(&pool, dtype, rows, cols, 1);
        let t = best((0..ROUNDS).map(|_| bench.multiply(&pool, &kernels, 128)).collect());
        let macs = (128 * rows * cols) as f64;
        let peak = INT8_MACS * pool.threads() as f64 / best((0..ROUNDS).map(|_| int8_seconds(&pool)).collect());
        println!("{rows}x{cols} times 128 rows: {:.0} G multiply-adds/s of {:.0}", macs / t / 1e9, peak / 1e9);
    }
    for rows in [1, 5, 17] {
        attention(&pool, &kernels, 4096, rows);
    }
}
