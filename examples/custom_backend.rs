//! A custom back end in scalar code: it joins the registry, runs the conformance list and generates tokens. It has
//! fourteen ops on f32, u32 and KV pages. A real one would have fused kinds and counters, and not allocate in steps.

use aio::conformance::{Summary, cases, run_cases};
use aio::devices::{ORACLE, Registry, SimpleEntry};
use aio::engine::{EngineOptions, Flow, Request, Sampling};
use aio::ir::sampling::{SampleParams, SampleRow, accepted, argmax, sample};
use aio::ir::{DType, Def, Dims, Node, Op, PAGE_POSITIONS, TensorType, quant};
use aio::model::{Model, gguf::Gguf, synth};
use aio::{backend::*, plan::*};
use half::f16;
use std::{collections::HashMap, error::Error, sync::Arc, sync::Mutex, sync::PoisonError, time::Instant};

use Op::{Add, Argmax, Attend, Embed, Gather, Matmul, Mul, PageWrite, Reshape, RmsNorm, Rope, Sample, Silu, Verify};
const OPS: [Op; 14] =
    [Add, Argmax, Attend, Embed, Gather, Matmul, Mul, PageWrite, Reshape, RmsNorm, Rope, Sample, Silu, Verify];
const PAGE: usize = PAGE_POSITIONS as usize;
/// The elements of a tensor: u32, or the bits of f32. Weights are decoded at upload; pages hold f32 rounded to f16.
type Words = Vec<u32>;
/// The tensor at each location. Weights and states are always present.
type Memory = HashMap<Loc, Words>;
type Done<T, E = DeviceError> = Result<T, E>;

struct Toy;
/// A model on the device, and the sizes of its pools.
struct Resident(Mutex<Memory>, PoolSizes);
struct ToyPlan(Plan, Traffic, Arc<Resident>);

fn unsupported(kind: &'static str, reason: String) -> DeviceError {
    DeviceError::Unsupported { device: "toy".to_owned(), kind, reason }
}

fn below(index: u32, size: usize) -> Done<usize> {
    let i = index as usize;
    if i < size { Ok(i) } else { Err(DeviceError::Failed(format!("index {i} is not below {size}"))) }
}

fn bits(numbers: impl IntoIterator<Item = f32>) -> Words {
    numbers.into_iter().map(f32::to_bits).collect()
}

impl Device for Toy {
    fn target(&self) -> Target {
        let limits = Limits { page: &[PAGE as u32], ..Limits::default() };
        let kind = |op| KindSupport::new(KindName::Op(op), DType::ALL, Layout::Plain).within(limits.clone());
        Target::new("toy", OPS.map(kind).to_vec())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn upload(&self, family: &PlanFamily, source: &dyn WeightSource, pools: PoolSizes) -> Done<WeightSet> {
        let mut memory = Memory::new();
        for (i, w) in family.weights.iter().enumerate() {
            let mut numbers = vec![0.0; w.ty.shape.elems(&Dims::default()).unwrap_or(0) as usize];
            let decoded = quant::dequantize(w.ty.dtype, weights::checked(source, &w.name, &w.ty)?, &mut numbers);
            decoded.map_err(|_| unsupported("weight", format!("elements of {}", w.ty.dtype)))?;
            memory.insert(Loc::Weight(WeightId::new(i)), bits(numbers));
        }
        for (i, state) in family.states.iter().enumerate() {
            state.kv_shape().ok_or_else(|| unsupported("state", format!("{} is no KV pages", state.ty)))?;
            let elems = state.ty.shape.elems(&family.state_bounds(pools)).unwrap_or(0) as usize;
            memory.insert(Loc::State(StateId::new(i)), vec![0; elems]);
        }
        Ok(WeightSet::new(Resident(Mutex::new(memory), pools)))
    }

    fn load(&self, family: &PlanFamily, plan: &Plan, on: &WeightSet, _: &LoadOptions) -> Done<Box<dyn Executable>> {
        plan.tasks.iter().try_for_each(check)?;
        Ok(Box::new(ToyPlan(plan.clone(), Traffic::of(family, plan), on.get()?)))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Done<()> {
        let resident = weights.get::<Resident>()?;
        let mut memory = resident.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, state) in memory.iter_mut().filter(|(loc, _)| matches!(loc, Loc::State(_))) {
            let (all, size) = (resident.1.pages as usize, state.len() / resident.1.pages.max(1) as usize);
            for &(from, to) in pages {
                let (from, to) = (below(from, all)? * size, below(to, all)? * size);
                state.copy_within(from..from + size, to);
            }
        }
        Ok(())
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Done<Vec<u8>> {
        let resident = weights.get::<Resident>()?;
        let memory = resident.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = memory.get(&Loc::State(StateId::new(state))).ok_or(DeviceError::ForeignHandle)?;
        Ok(words.iter().flat_map(|&w| f16::from_f32(f32::from_bits(w)).to_le_bytes()).collect())
    }
}

/// Checks that there is code for a task: one op in its usual form, on types that [`Words`] can hold.
fn check(task: &Task) -> Done<()> {
    let (name, has) = (task.kind.name().name(), |i| task.operands.get(i).is_some_and(|s| *s != Loc::Absent));
    let Some((_, node)) = task.body.nodes().next() else { return Ok(()) };
    let (op, out) = (node.op, task.body.ty(node.results[0]).shape.dims());
    let odd = match op {
        Matmul => has(2),
        RmsNorm => !has(1),
        Attend => has(5) || node.f32("soft_cap") != 0.0 || node.int("window") != 0,
        _ => (op == Add || op == Mul) && !task.body.values().all(|(_, v)| out.ends_with(v.ty.shape.dims())),
    };
    let holds = |dtype: DType, weight: bool| match dtype {
        DType::F16 => op == PageWrite || op == Attend || weight,
        DType::I32 => op == Sample,
        other => other == DType::F32 || other == DType::U32 || weight && other.is_float(),
    };
    match task.body.values().find(|(_, v)| !holds(v.ty.dtype, v.def == Def::Weight)) {
        Some((_, v)) => Err(unsupported(name, format!("elements of {}", v.ty.dtype))),
        None if odd || task.kind != TaskKind::Op(op) => Err(unsupported(name, "a form without code".to_owned())),
        None => Ok(()),
    }
}

impl Executable for ToyPlan {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Done<Pending<'a>> {
        let ToyPlan(plan, traffic, resident) = self;
        let started = Instant::now();
        bindings.check(plan, resident.1)?;
        let mut memory = resident.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, data) in bindings.inputs.iter().enumerate() {
            let words = data.map(|d| bytemuck::allocation::pod_collect_to_vec(d.bytes()));
            memory.insert(Loc::Input(InputId::new(i)), words.unwrap_or_default());
        }
        plan.tasks.iter().try_for_each(|task| run(task, &bindings.dims, &mut memory))?;
        for (i, out) in bindings.outputs.iter_mut().enumerate() {
            let words = &memory[&Loc::Output(OutputId::new(i))];
            out[..words.len()].copy_from_slice(words);
        }
        let time = StepTime::Measured(started.elapsed().as_secs_f64());
        Ok(Pending::Done(StepReport::new(traffic, bindings.load(plan), 1, time)))
    }
}

fn run(task: &Task, dims: &Dims, memory: &mut Memory) -> Done<()> {
    let Some((_, node)) = task.body.nodes().next() else { return Ok(()) };
    let shape = |ty: &TensorType| ty.shape.resolve(dims).iter().map(|&n| n as usize).collect::<Vec<_>>();
    let mut types = task.body.values().map(|(_, v)| shape(&v.ty));
    let mut operand = |words| (types.next().unwrap_or_default(), Vec::as_slice(words));
    let operands = task.operands.iter().map(|loc| memory.get(loc).map(&mut operand).unwrap_or_default());
    let (shapes, words) = operands.unzip();
    let ty = task.body.ty(node.results[0]);
    let (elements, float) = (shape(ty).iter().product(), ty.dtype.is_float());
    let results = Args { node, shapes, words, elements, float }.results()?;
    memory.extend(task.results.iter().copied().zip(results));
    Ok(())
}

/// The operands of one op, and the type of its first result.
struct Args<'a> {
    node: &'a Node,
    shapes: Vec<Vec<usize>>,
    words: Vec<&'a [u32]>,
    elements: usize,
    float: bool,
}

impl Args<'_> {
    fn f(&self, i: usize) -> Vec<f32> {
        self.words.get(i).unwrap_or(&&[][..]).iter().map(|&w| f32::from_bits(w)).collect()
    }

    fn results(&self) -> Done<Vec<Words>> {
        let (x, y, last) = (self.f(0), self.f(1), self.shapes[0].last().map_or(1, |&n| n.max(1)));
        let rows = x.chunks(last);
        Ok(vec![match self.node.op {
            Embed | Gather => self.pick()?,
            Matmul if x.is_empty() => vec![0; self.elements],
            Matmul => rows.flat_map(|x| y.chunks(last).map(move |w| dot(x, w).to_bits())).collect(),
            Add | Mul => (0..self.elements).map(|i| self.binary(i)).collect(),
            Silu => bits(x.iter().map(|&v| v / (1.0 + (-v).exp()))),
            RmsNorm => bits(rows.flat_map(|row| {
                let factor = (dot(row, row) / last as f32 + self.node.f32("eps")).sqrt().recip();
                row.iter().zip(&y).map(move |(v, w)| v * factor * w)
            })),
            Rope => self.rope(x, last),
            PageWrite => self.page_write()?,
            Attend => self.attend(&x, &y)?,
            Argmax => rows.map(argmax).collect(),
            Sample => rows.enumerate().map(|(i, logits)| self.sample(i, logits)).collect(),
            Verify => return self.verify(),
            _ => self.words[0].to_vec(),
        }])
    }

    fn pick(&self) -> Done<Words> {
        let (count, size) = (self.shapes[0][0], self.shapes[0][1..].iter().product::<usize>());
        let slice = |&i: &u32| Ok(&self.words[0][below(i, count)? * size..][..size]);
        Ok(self.words[1].iter().map(slice).collect::<Done<Vec<_>>>()?.concat())
    }

    /// An element of a sum or product; a smaller operand repeats.
    fn binary(&self, element: usize) -> u32 {
        let ([a, b], add) = ([0, 1].map(|i| self.words[i][element % self.words[i].len()]), self.node.op == Add);
        let [x, y] = [a, b].map(f32::from_bits);
        let number = if add { x + y } else { x * y };
        let whole = if add { a.wrapping_add(b) } else { a.wrapping_mul(b) };
        if self.float { number.to_bits() } else { whole }
    }

    fn rope(&self, mut x: Vec<f32>, size: usize) -> Words {
        let (spec, factors) = (RopeSpec::from_node(self.node), self.f(2));
        let (frequencies, magnitude) = spec.frequencies(Some(&*factors).filter(|f| !f.is_empty()));
        for (i, head) in x.chunks_mut(size).enumerate() {
            let (position, halves) = (self.words[1][i / self.shapes[0][1]] as f32, spec.pairs == RopePairs::Halves);
            for (i, frequency) in frequencies.iter().enumerate() {
                let (j, k) = if halves { (i, i + frequencies.len()) } else { (2 * i, 2 * i + 1) };
                let ((sin, cos), x, y) = ((position * frequency).sin_cos(), head[j] * magnitude, head[k] * magnitude);
                (head[j], head[k]) = (x * cos - y * sin, x * sin + y * cos);
            }
        }
        bits(x)
    }

    /// Where the keys (half 0) or values (1) of a row's sequence are at a position; `kv` and `table` are operands.
    fn place(&self, [kv, table, row]: [usize; 3], position: u32, half: usize, head: usize) -> Done<usize> {
        let (pool, seqs, width) = (&self.shapes[kv], self.shapes[table][0], self.shapes[table][1]);
        let entry = below(self.words[table + 1][row], seqs)? * width + below(position / PAGE as u32, width)?;
        let page = below(self.words[table][entry], pool[0])?;
        Ok((((page * 2 + half) * pool[2] + head) * PAGE + position as usize % PAGE) * pool[4])
    }

    fn page_write(&self) -> Done<Words> {
        let (mut pages, heads, size) = (self.words[0].to_vec(), self.shapes[0][2], self.shapes[0][4]);
        for (half, x) in [self.f(1), self.f(2)].iter().enumerate() {
            for (i, vector) in x.chunks(size).enumerate() {
                let at = self.place([0, 3, i / heads], self.words[5][i / heads], half, i % heads)?;
                pages[at..at + size].copy_from_slice(&bits(vector.iter().map(|&v| f16::from_f32(v).to_f32())));
            }
        }
        Ok(pages)
    }

    fn attend(&self, q: &[f32], kv: &[f32]) -> Done<Words> {
        let (heads, size, group) = (self.shapes[0][1], self.shapes[0][2], self.shapes[0][1] / self.shapes[1][2]);
        let mut out = Words::with_capacity(q.len());
        for (i, query) in q.chunks(size).enumerate() {
            let seen = 0..=self.words[4][i / heads];
            let read = |p, half| self.place([1, 2, i / heads], p, half, i % heads / group).map(|at| &kv[at..at + size]);
            let score = |p| Ok(dot(query, read(p, 0)?) * self.node.f32("scale"));
            let scores = seen.clone().map(score).collect::<Done<Vec<f32>>>()?;
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f64> = scores.iter().map(|s| f64::from(s - top).exp()).collect();
            let (mut sum, total) = (vec![0.0f64; size], weights.iter().sum::<f64>());
            for (p, weight) in seen.zip(weights) {
                sum.iter_mut().zip(read(p, 1)?).for_each(|(s, &v)| *s += weight * f64::from(v));
            }
            out.extend(bits(sum.iter().map(|s| (s / total) as f32)));
        }
        Ok(out)
    }

    fn sample(&self, row: usize, logits: &[f32]) -> u32 {
        let of = |i: usize| self.words[i].chunks(self.shapes[i].last().map_or(1, |&n| n.max(1))).nth(row);
        let floats = |words: &[u32]| words.iter().map(|&w| f32::from_bits(w)).collect::<Vec<f32>>();
        let recent: Vec<i32> = of(3).unwrap_or_default().iter().map(|&t| t as i32).collect();
        let noise = of(2).and_then(|w| w.try_into().ok()).unwrap_or_default();
        let (params, bias) = (SampleParams::from_row(&floats(of(1).unwrap_or_default())), of(4).map(floats));
        sample(logits, &SampleRow { params, noise, recent: &recent, bias: bias.as_deref() }, &mut Vec::new())
    }

    fn verify(&self) -> Done<Vec<Words>> {
        let (n, words) = (self.words[0].len(), &self.words);
        let runs = words[2].chunks(2).map(|span| {
            let rows = below(span[0], n)?..=below(span[0].saturating_add(span[1]), n)?;
            Ok(accepted(&words[0][rows.clone()], &words[1][rows]).unwrap_or_default())
        });
        let runs = runs.collect::<Done<Vec<_>>>()?;
        Ok(<[Words; 2]>::from(runs.into_iter().unzip()).into())
    }
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
}

/// Generates tokens with a small model with random weights.
fn generate(device: Arc<dyn Device>) -> Done<Words, Box<dyn Error>> {
    let preset = synth::Preset::find("llama-1b").ok_or("no such preset")?.tiny();
    let model = Model::from_gguf(Gguf::from_bytes(synth::Synth::new(&preset, DType::Q8_0, 7)?.to_bytes()?)?)?;
    let engine = aio::load(model, device, &EngineOptions { context: Some(64), ..EngineOptions::default() })?;
    let request = Request { max_tokens: Some(16), ignore_eog: true, ..Request::new(vec![1, 2, 3], Sampling::greedy()) };
    Ok(engine.generate(&request, &mut |_| Flow::Continue)?.ids)
}

/// Results of the conformance list, and the tokens of this back end and of the oracle.
pub(crate) fn show() -> Done<(Summary, [Words; 2]), Box<dyn Error>> {
    let mut devices = Registry::with_defaults();
    devices.add(SimpleEntry { name: "toy", summary: "Plain loops", chip: "any", make: || Ok(Arc::new(Toy)) })?;
    let [toy, oracle] = ["toy", ORACLE].map(|name| devices.open(name, &Default::default()));
    let (toy, oracle) = (toy?.device, oracle?.device);
    Ok((run_cases(&cases(), &*toy).collect(), [generate(toy)?, generate(oracle)?]))
}

fn main() -> Done<(), Box<dyn Error>> {
    show().map(|(summary, [toy, oracle])| println!("{summary}tokens {toy:?}, the oracle's {oracle:?}"))
}
