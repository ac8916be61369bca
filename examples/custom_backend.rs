//! A back end of one's own in plain scalar code: it joins the registry, runs the conformance list, and generates tokens.
//!
//! `cargo run --release --example custom_backend`. It has fourteen ops, a task each, on f32, u32 and KV pages. What its target
//! does not list the compiler refuses; what it lists and cannot do it refuses when a plan is loaded. A back end for use would
//! take fused kinds too, lay out weights its own way, count its steps and allocate nothing in them.

use aio::backend::{Bindings, Counters, Device, DeviceError, Executable, FullAxes, LoadOptions, Pending};
use aio::backend::{WeightSet, WeightSource, weights};
use aio::conformance::{Report, cases, run_cases};
use aio::devices::{DeviceEntry, DeviceOptions, Opened, Registry};
use aio::engine::{EngineOptions, Flow, Request, Sampling};
use aio::ir::sampling::{NO_TOKEN, SampleParams, SampleRow, is_broken, sample};
use aio::ir::{DType, Dims, Node, Op, PAGE_POSITIONS, TensorType, quant};
use aio::model::{Model, gguf::Gguf, synth};
use aio::plan::{InputId, OutputId, StateId, WeightId};
use aio::plan::{KindName, KindSupport, Layout, Plan, PlanFamily, RopePairs, RopeSpec, Slot, Target, Task, TaskKind};
use half::f16;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use Op::{Add, Argmax, Attend, Embed, Gather, Matmul, Mul, PageWrite, Reshape, RmsNorm, Rope, Sample, Silu, Verify};
const OPS: [Op; 14] =
    [Add, Argmax, Attend, Embed, Gather, Matmul, Mul, PageWrite, Reshape, RmsNorm, Rope, Sample, Silu, Verify];
const PAGE: usize = PAGE_POSITIONS as usize;

/// The elements of a tensor: u32, or the bits of f32. Weights are decoded at upload; pages hold f32 numbers that f16 has.
type Words = Vec<u32>;
/// What lies in every slot; weights and states from the beginning.
type Memory = HashMap<Slot, Words>;

struct Toy;

struct Resident {
    memory: Mutex<Memory>,
    pages: usize,
}

struct ToyPlan(Plan, FullAxes, Arc<Resident>);

fn unsupported(kind: &'static str, reason: String) -> DeviceError {
    DeviceError::Unsupported { device: "toy".to_owned(), kind, reason }
}

/// An index that must be below a size.
fn below(index: u32, size: usize) -> Result<usize, DeviceError> {
    let fail = || DeviceError::Failed(format!("index {index} is not below {size}"));
    Some(index as usize).filter(|&i| i < size).ok_or_else(fail)
}

fn bits(numbers: impl IntoIterator<Item = f32>) -> Words {
    numbers.into_iter().map(f32::to_bits).collect()
}

impl Device for Toy {
    fn target(&self) -> Target {
        let weights: Vec<_> = DType::ALL.iter().copied().filter(|t| t.is_float()).collect();
        let kind = |op| KindSupport { kind: KindName::Op(op), weights: weights.clone(), layouts: vec![Layout::Plain] };
        Target { name: "toy".to_owned(), kinds: OPS.map(kind).to_vec(), alignment: 64 }
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn upload(&self, family: &PlanFamily, source: &dyn WeightSource, pages: u32) -> Result<WeightSet, DeviceError> {
        let mut memory = Memory::new();
        for (i, w) in family.weights.iter().enumerate() {
            let mut numbers = vec![0.0; w.ty.shape.elems(&Dims::default()).unwrap_or(0) as usize];
            let decoded = quant::dequantize(w.ty.dtype, weights::checked(source, &w.name, &w.ty)?, &mut numbers);
            decoded.map_err(|_| unsupported("weight", format!("elements of {}", w.ty.dtype)))?;
            memory.insert(Slot::Weight(WeightId::new(i)), bits(numbers));
        }
        for (i, state) in family.states.iter().enumerate() {
            state.kv_shape().ok_or_else(|| unsupported("state", format!("{} is no KV pages", state.ty)))?;
            let elems = state.ty.shape.elems(&family.state_bounds(pages)).unwrap_or(0) as usize;
            memory.insert(Slot::State(StateId::new(i)), vec![0; elems]);
        }
        Ok(WeightSet::new(Resident { memory: Mutex::new(memory), pages: pages as usize }))
    }

    fn load(
        &self,
        _: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        _: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        plan.tasks.iter().try_for_each(check)?;
        Ok(Box::new(ToyPlan(plan.clone(), FullAxes::of(plan), weights.get()?)))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        let resident = weights.get::<Resident>()?;
        let mut memory = resident.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, state) in memory.iter_mut().filter(|(slot, _)| matches!(slot, Slot::State(_))) {
            let size = state.len() / resident.pages.max(1);
            for &(from, to) in pages {
                let (from, to) = (below(from, resident.pages)? * size, below(to, resident.pages)? * size);
                state.copy_within(from..from + size, to);
            }
        }
        Ok(())
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError> {
        let resident = weights.get::<Resident>()?;
        let memory = resident.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let words = memory.get(&Slot::State(StateId::new(state))).ok_or(DeviceError::ForeignHandle)?;
        Ok(words.iter().flat_map(|&w| f16::from_f32(f32::from_bits(w)).to_le_bytes()).collect())
    }
}

/// Whether there is code for a task: one op on types that [`Words`] hold, without the rarer operands.
fn check(task: &Task) -> Result<(), DeviceError> {
    let (name, has) = (task.kind.name().name(), |i| task.operands.get(i).is_some_and(|s| *s != Slot::Absent));
    if !matches!(task.kind, TaskKind::Op(op) if !(op == Matmul && has(2) || op == Attend && has(5))) {
        return Err(unsupported(name, "fused kinds, experts and sinks are not there".to_owned()));
    }
    let mut slots = task.operands.iter().filter(|s| **s != Slot::Absent);
    for (_, value) in task.body.values() {
        let fits = match (slots.next(), value.ty.dtype) {
            (Some(Slot::Weight(_)), dtype) => dtype.is_float(),
            (_, DType::F16) => name == PageWrite.mnemonic() || name == Attend.mnemonic(),
            (_, dtype) => matches!(dtype, DType::F32 | DType::U32),
        };
        fits.then_some(()).ok_or_else(|| unsupported(name, format!("elements of {}", value.ty.dtype)))?;
    }
    Ok(())
}

impl Executable for ToyPlan {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        let ToyPlan(plan, full, resident) = self;
        bindings.check(plan)?;
        full.check(&bindings.dims)?;
        let mut memory = resident.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, data) in bindings.inputs.iter().enumerate() {
            let words = data.map(|d| bytemuck::allocation::pod_collect_to_vec(d.bytes()));
            memory.insert(Slot::Input(InputId::new(i)), words.unwrap_or_default());
        }
        // The pool's size belongs to the resident model, the rest to the step.
        let dims = Dims { pages: resident.pages as u32, ..bindings.dims };
        plan.tasks.iter().try_for_each(|task| run(task, &dims, &mut memory))?;
        for (i, out) in bindings.outputs.iter_mut().enumerate() {
            let words = &memory[&Slot::Output(OutputId::new(i))];
            out[..words.len()].copy_from_slice(words);
        }
        Ok(Pending::Done)
    }
}

fn run(task: &Task, dims: &Dims, memory: &mut Memory) -> Result<(), DeviceError> {
    let Some((_, node)) = task.body.nodes().next() else { return Ok(()) };
    let shape = |ty: &TensorType| ty.shape.resolve(dims).iter().map(|&n| n as usize).collect::<Vec<_>>();
    let mut types = task.body.values().map(|(_, v)| &v.ty);
    let mut take = |slot: &Slot| if *slot == Slot::Absent { None } else { types.next().map(shape) };
    let shapes = task.operands.iter().map(|slot| take(slot).unwrap_or_default()).collect();
    // Taken out, since they are written in place.
    let mut pages = if node.op == PageWrite { memory.remove(&task.operands[0]) } else { None };
    let words = task.operands.iter().map(|slot| memory.get(slot).map_or(&[][..], Vec::as_slice)).collect();
    let ty = task.body.ty(node.results[0]);
    let args = Args { node, shapes, words, out: shape(ty), float: ty.dtype.is_float() };
    let results = args.results(pages.as_deref_mut().unwrap_or_default());
    memory.extend(pages.map(|words| (task.operands[0], words)));
    memory.extend(task.results.iter().copied().zip(results?));
    Ok(())
}

/// The operands of one op, and what its first result is.
struct Args<'a> {
    node: &'a Node,
    shapes: Vec<Vec<usize>>,
    words: Vec<&'a [u32]>,
    out: Vec<usize>,
    float: bool,
}

impl Args<'_> {
    fn f(&self, i: usize) -> Vec<f32> {
        self.words.get(i).unwrap_or(&&[][..]).iter().map(|&w| f32::from_bits(w)).collect()
    }

    /// All results but pages, which are written in place.
    fn results(&self, pages: &mut [u32]) -> Result<Vec<Words>, DeviceError> {
        let (x, y, last) = (self.f(0), self.f(1), self.shapes[0].last().copied().unwrap_or(1).max(1));
        let rows = x.chunks(last);
        Ok(vec![match self.node.op {
            PageWrite => return self.page_write(pages).map(|()| Vec::new()),
            Verify => return self.verify(),
            Embed | Gather => self.pick()?,
            // Without columns there are no chunks, and the sums are 0.
            Matmul => rows.flat_map(|x| y.chunks(last).map(move |w| dot(x, w).to_bits())).chain(zeros(&self.out)).collect(),
            Add | Mul => (0..self.out.iter().product()).map(|i| self.binary(i)).collect(),
            Silu => bits(x.iter().map(|&v| v / (1.0 + (-v).exp()))),
            RmsNorm => bits(rows.flat_map(|row| rms_norm(row, &y, self.node.f32("eps")))),
            Rope => self.rope(x.clone(), last),
            Attend => self.attend(&x, &y)?,
            Argmax => rows.map(argmax).collect(),
            Sample => rows.enumerate().map(|(i, logits)| self.sample(i, logits)).collect(),
            _ => self.words[0].to_vec(),
        }])
    }

    /// Slices of the first dimension by index.
    fn pick(&self) -> Result<Words, DeviceError> {
        let (count, size) = (self.shapes[0][0], self.shapes[0][1..].iter().product::<usize>());
        let slice = |&i: &u32| Ok(&self.words[0][below(i, count)? * size..][..size]);
        Ok(self.words[1].iter().map(slice).collect::<Result<Vec<_>, DeviceError>>()?.concat())
    }

    /// An element of a sum or product whose operands broadcast.
    fn binary(&self, element: usize) -> u32 {
        let [a, b] = [0, 1].map(|operand| {
            let (mut at, mut stride, mut rest) = (0, 1, element);
            for (&own, &size) in self.shapes[operand].iter().rev().zip(self.out.iter().rev()) {
                at += if own == 1 { 0 } else { rest % size * stride };
                (rest, stride) = (rest / size, stride * own);
            }
            self.words[operand][at]
        });
        match (self.node.op, self.float) {
            (Add, true) => (f32::from_bits(a) + f32::from_bits(b)).to_bits(),
            (_, true) => (f32::from_bits(a) * f32::from_bits(b)).to_bits(),
            (Add, false) => a.wrapping_add(b),
            (_, false) => a.wrapping_mul(b),
        }
    }

    fn rope(&self, mut x: Vec<f32>, size: usize) -> Words {
        let (spec, factors) = (RopeSpec::from_node(self.node), self.f(2));
        let (frequencies, magnitude) = spec.frequencies(Some(&*factors).filter(|f| !f.is_empty()));
        for (i, head) in x.chunks_mut(size).enumerate() {
            let position = self.words[1][i / self.shapes[0][1]] as f32;
            for (i, frequency) in frequencies.iter().enumerate() {
                let halves = spec.pairs == RopePairs::Halves;
                let (j, k) = if halves { (i, i + frequencies.len()) } else { (2 * i, 2 * i + 1) };
                let ((sin, cos), x, y) = ((position * frequency).sin_cos(), head[j] * magnitude, head[k] * magnitude);
                (head[j], head[k]) = (x * cos - y * sin, x * sin + y * cos);
            }
        }
        bits(x)
    }

    /// Where the keys (half 0) or values (1) of a row's sequence lie at a position; `kv` and `table` are operands, sequences
    /// follow the table.
    fn place(&self, [kv, table]: [usize; 2], row: usize, position: u32, [half, head]: [usize; 2]) -> Result<usize, DeviceError> {
        let (pool, width) = (&self.shapes[kv], self.shapes[table][1]);
        let seq = below(self.words[table + 1][row], self.shapes[table][0])?;
        let page = below(self.words[table][seq * width + below(position / PAGE as u32, width)?], pool[0])?;
        Ok((((page * 2 + half) * pool[2] + head) * PAGE + position as usize % PAGE) * pool[4])
    }

    fn page_write(&self, pages: &mut [u32]) -> Result<(), DeviceError> {
        let (heads, size) = (self.shapes[0][2], self.shapes[0][4]);
        for (half, x) in [self.f(1), self.f(2)].iter().enumerate() {
            for (i, vector) in x.chunks(size).enumerate() {
                let (row, head) = (i / heads, i % heads);
                let at = self.place([0, 3], row, self.words[5][row], [half, head])?;
                pages[at..at + size].copy_from_slice(&bits(vector.iter().map(|&v| f16::from_f32(v).to_f32())));
            }
        }
        Ok(())
    }

    fn attend(&self, q: &[f32], kv: &[f32]) -> Result<Words, DeviceError> {
        let (heads, size, group) = (self.shapes[0][1], self.shapes[0][2], self.shapes[0][1] / self.shapes[1][2]);
        let (scale, cap, window) = (self.node.f32("scale"), self.node.f32("soft_cap"), self.node.int("window") as u32);
        let mut out = Vec::with_capacity(q.len());
        for (i, query) in q.chunks(size).enumerate() {
            let (row, head, last) = (i / heads, i % heads / group, self.words[4][i / heads]);
            let seen = if window == 0 { 0 } else { (last + 1).saturating_sub(window) }..=last;
            let read = |p, half| self.place([1, 2], row, p, [half, head]).map(|at| &kv[at..at + size]);
            let score = |p| Ok(dot(query, read(p, 0)?) * scale);
            let scores = seen.clone().map(score).collect::<Result<Vec<f32>, DeviceError>>()?;
            let capped = scores.iter().map(|&s| if cap > 0.0 { cap * (s / cap).tanh() } else { s });
            let top = capped.clone().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut total) = (vec![0.0f64; size], 0.0);
            for (p, score) in seen.zip(capped) {
                let weight = f64::from(score - top).exp();
                total += weight;
                sum.iter_mut().zip(read(p, 1)?).for_each(|(s, &v)| *s += weight * f64::from(v));
            }
            out.extend(sum.iter().map(|s| ((s / total) as f32).to_bits()));
        }
        Ok(out)
    }

    fn sample(&self, row: usize, logits: &[f32]) -> u32 {
        let of = |i: usize, n: usize| &self.words[i][row * n..][..n];
        let recent: Vec<i32> = of(3, self.shapes[3][1]).iter().map(|&t| t as i32).collect();
        let bias = self.f(4);
        let params: Vec<f32> = of(1, self.shapes[1][1]).iter().map(|&w| f32::from_bits(w)).collect();
        let mut noise = [0; 4];
        noise.copy_from_slice(of(2, 4));
        let bias = if bias.is_empty() { None } else { Some(&bias[row * logits.len()..][..logits.len()]) };
        let row = SampleRow { params: SampleParams::from_row(&params), noise, recent: &recent, bias };
        sample(logits, &row, &mut Vec::new())
    }

    /// Accepted drafts and the next token of each sequence: row `i` samples what row `i + 1` should hold.
    fn verify(&self) -> Result<Vec<Words>, DeviceError> {
        let (sampled, drafts) = (self.words[0], self.words[1]);
        let (mut accepted, mut next) = (Words::new(), Words::new());
        for span in self.words[2].chunks(2) {
            let first = below(span[0], sampled.len())?;
            below(span[0] + span[1], sampled.len())?;
            let agrees = |&i: &usize| sampled[first + i] == drafts[first + i + 1] && sampled[first + i] != NO_TOKEN;
            let hits = (0..span[1] as usize).take_while(agrees).count();
            accepted.push(hits as u32);
            next.push(sampled[first + hits]);
        }
        Ok(vec![accepted, next])
    }
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
}
