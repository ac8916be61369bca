//! The kernels that dominate a step's time, in GB/s and relative to what this machine can do.
//!
//! Run with `cargo bench --bench kernels`; a filter selects groups, as in `cargo bench --bench kernels -- q4_1`. Matrices are
//! far (more of them than the caches hold) or near (one that fits in the second-level cache), since the first measures the
//! memory bus and the second the arithmetic. After criterion's own report, a table shows each median next to the streaming
//! reads and the register peaks measured in the same run. `aio kernels perf` times any kernel on any device.

use aio::cpu::activation::{ActBlock, act_blocks};
use aio::cpu::kernels::Kernels;
use aio::cpu::kernels::attend::{
    ATTEND_SCRATCH_LEN, AttendArgs, AttendRule, KvLayer, PAGE_POSITIONS, Partials, SPLIT_POSITIONS, partials_len,
};
use aio::cpu::kernels::matmul::{Input, MatmulArgs, Output, Weights};
use aio::cpu::memory::AlignedBytes;
use aio::cpu::pack::{groups_of, packed_bytes};
use aio::cpu::pool::Pool;
use aio::cpu::probe::{Probe, ReadBuffer};
use aio::cpu::{CpuDevice, CpuOptions, isa::Isa};
use aio::ir::DType;
use aio::orchestrator::Figure;
use bytemuck::Zeroable;
use criterion::{Criterion, Throughput};
use half::f16;
use std::time::{Duration, Instant};

/// Output rows and columns of the default model's larger matrices; a multiple of 256 columns for K-quants.
const SHAPE: [usize; 2] = [1536, 576];
const SHAPE_K: [usize; 2] = [1536, 512];
/// More bytes than the caches available to us on a common server hold.
const FAR_BYTES: usize = 96 << 20;

/// Measurements of one case.
struct Measured {
    name: String,
    bytes: f64,
    macs: f64,
    int8: bool,
    seconds: Vec<f64>,
}

struct Bench {
    pool: Pool,
    kernels: Kernels,
    probe: Probe,
    reads: ReadBuffer,
    done: Vec<Measured>,
    read_s: Vec<f64>,
}

/// Matrices of one shape.
struct Matrices {
    dtype: DType,
    rows: usize,
    cols: usize,
    copies: Vec<AlignedBytes>,
}

impl Matrices {
    fn new(dtype: DType, total: usize) -> Matrices {
        let [rows, cols] = if dtype.block_elems() == 256 { SHAPE_K } else { SHAPE };
        let bytes = packed_bytes(dtype, rows, cols).expect("a packed form");
        let mut copies: Vec<_> = (0..total.div_ceil(bytes)).map(|_| AlignedBytes::zeroed(bytes)).collect();
        copies.iter_mut().for_each(|c| c.fill(0x11));
        Matrices { dtype, rows, cols, copies }
    }

    fn bytes(&self) -> usize {
        self.copies.iter().map(|c| c.len()).sum()
    }
}

impl Bench {
    /// Times `turns` runs of `body`, with reads timed in between, and stores the time of each run.
    fn timed(&mut self, turns: u64, seconds: &mut Vec<f64>, mut body: impl FnMut(&Bench)) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..turns {
            let start = Instant::now();
            body(self);
            let took = start.elapsed();
            total += took;
            seconds.push(took.as_secs_f64());
        }
        self.read_s.push(self.probe.read_seconds(&self.reads, self.probe.threads(), 1));
        total
    }

    fn multiply(&self, m: &Matrices, rows: usize, blocks: &[ActBlock], plain: &[f32], y: &mut [f32]) {
        let output = Output { start: y.as_mut_ptr(), stride: m.rows };
        let input = if m.dtype.is_quantized() { Input::Quantized(blocks) } else { Input::Plain(plain) };
        self.pool.run(&|worker| {
            for copy in &m.copies {
                let weights = Weights { dtype: m.dtype, rows: m.rows, cols: m.cols, packed: copy };
                let groups = worker.share(groups_of(m.rows));
                let args = MatmulArgs { weights, input, rows, groups, bias: None, residual: None, output };
                // SAFETY: each thread writes the columns of its own groups.
                unsafe { self.kernels.matmul(&args) };
                worker.barrier();
            }
        });
    }

    fn matmul(&mut self, c: &mut Criterion, place: &str, dtype: DType, total: usize, rows: &[usize]) {
        let m = Matrices::new(dtype, total);
        let mut group = c.benchmark_group(format!("{place}/{dtype}"));
        group.throughput(Throughput::Bytes(m.bytes() as u64));
        for &rows in rows {
            let blocks = vec![ActBlock::zeroed(); act_blocks(rows, m.cols)];
            let (plain, mut y) = (vec![0f32; rows * m.cols], vec![0f32; rows * m.rows]);
            let mut seconds = Vec::new();
            group.bench_function(format!("rows{rows}"), |b| {
                b.iter_custom(|n| self.timed(n, &mut seconds, |s| s.multiply(&m, rows, &blocks, &plain, &mut y)));
            });
            let macs = (rows * m.rows * m.cols * m.copies.len()) as f64;
            let name = format!("{place}/{dtype}/rows{rows}");
            self.done.push(Measured { name, bytes: m.bytes() as f64, macs, int8: dtype.is_quantized(), seconds });
        }
    }

    /// Attention in the default model's shape, over enough layers to exceed the caches.
    fn attend(&mut self, c: &mut Criterion, depth: usize, rows: &[usize]) {
        const KV_HEADS: usize = 3;
        const Q_HEADS: usize = 9;
        const HEAD: usize = 64;
        let page_elems = 2 * KV_HEADS * PAGE_POSITIONS * HEAD;
        let pages: Vec<u32> = (0..depth.div_ceil(PAGE_POSITIONS) as u32).collect();
        let layer_elems = page_elems * pages.len();
        let layers = (FAR_BYTES / 2).div_ceil(2 * layer_elems);
        let mut memory = AlignedBytes::zeroed(2 * layer_elems * layers);
        bytemuck::cast_slice_mut::<u8, f16>(&mut memory).fill(f16::from_f32(0.5));
        let start = memory.as_mut_ptr() as usize;
        let mut group = c.benchmark_group(format!("attend/depth{depth}"));
        let bytes = 2 * 2 * KV_HEADS * HEAD * depth * layers;
        group.throughput(Throughput::Bytes(bytes as u64));
        for &rows in rows {
            let positions: Vec<u32> = (0..rows).map(|r| (depth - rows + r) as u32).collect();
            let q = vec![0.1f32; rows * Q_HEADS * HEAD];
            let splits = depth.div_ceil(SPLIT_POSITIONS);
            let mut buffer = vec![0f32; partials_len(rows, Q_HEADS, splits, HEAD)];
            let partials = Partials { start: buffer.as_mut_ptr(), splits };
            let rule = AttendRule { scale: 0.125, window: None, soft_cap: None };
            let once = |s: &Bench| {
                s.pool.run(&|worker| {
                    let mut scratch = vec![0f32; ATTEND_SCRATCH_LEN];
                    for layer in 0..layers {
                        let start = (start as *mut f16).wrapping_add(layer * layer_elems);
                        let kv = KvLayer { start, page_stride: page_elems, kv_heads: KV_HEADS, head_dim: HEAD };
                        for item in worker.share(KV_HEADS * splits) {
                            let (split, kv_head) = (item / KV_HEADS, item % KV_HEADS);
                            let (pages, positions, q, scratch) = (&pages[..], &positions[..], &q[..], &mut scratch[..]);
                            let args = AttendArgs {
                                kv,
                                pages,
                                positions,
                                q,
                                q_heads: Q_HEADS,
                                kv_head,
                                split,
                                rule,
                                partials,
                                scratch,
                            };
                            // SAFETY: no thread writes to pages; each item has its own partial results.
                            unsafe { s.kernels.attend(args) };
                        }
                        worker.barrier();
                    }
                });
            };
            let mut seconds = Vec::new();
            group.bench_function(format!("rows{rows}"), |b| b.iter_custom(|n| self.timed(n, &mut seconds, once)));
            let macs = (2 * rows * Q_HEADS * HEAD * depth * layers) as f64;
            let name = format!("attend/depth{depth}/rows{rows}");
            self.done.push(Measured { name, bytes: bytes as f64, macs, int8: false, seconds });
        }
    }

    fn report(&self) {
        let median = |s: &[f64]| Figure::of(s).map_or(f64::NAN, |f| f.median);
        let threads = self.probe.threads();
        let read = self.reads.len() as f64 / median(&self.read_s);
        let (int8, f32) = (self.probe.int8_macs(threads), self.probe.f32_macs(threads));
        println!("\n{}, {threads} threads; reads {:.1} GB/s", self.kernels.isa().level(), read / 1e9);
        println!("multiply-adds from registers: 8-bit {:.0} G/s, f32 {:.0} G/s\n", int8 / 1e9, f32 / 1e9);
        println!("| kernel | GB/s | of reads | G multiply-adds/s | of peak |\n| --- | ---: | ---: | ---: | ---: |");
        for m in self.done.iter().filter(|m| !m.seconds.is_empty()) {
            let (gb_s, macs) = (m.bytes / median(&m.seconds), m.macs / median(&m.seconds));
            let peak = if m.int8 { int8 } else { f32 };
            let (of_reads, of_peak) = (100.0 * gb_s / read, 100.0 * macs / peak);
            println!("| {} | {:.1} | {of_reads:.0} % | {:.0} | {of_peak:.0} % |", m.name, gb_s / 1e9, macs / 1e9);
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let device = CpuDevice::new(CpuOptions::default()).expect("threads start");
    let probe = device.probe();
    let reads = probe.read_buffer(FAR_BYTES).expect("memory");
    let pool = Pool::new(device.threads(), true).expect("threads start");
    let kernels = Kernels::new(Isa::detect());
    let mut bench = Bench { pool, kernels, probe, reads, done: Vec::new(), read_s: Vec::new() };
    for dtype in [DType::Q4_1, DType::Q4_0, DType::Q8_0, DType::Q4K, DType::Q6K, DType::F16] {
        bench.matmul(&mut criterion, "memory", dtype, FAR_BYTES, &[1, 5, 9, 17]);
    }
    for dtype in [DType::Q4_1, DType::Q8_0] {
        bench.matmul(&mut criterion, "near", dtype, 1, &[1, 5, 9, 17, 128]);
    }
    bench.attend(&mut criterion, 4096, &[1, 5, 17]);
    bench.report();
    criterion.final_summary();
}
