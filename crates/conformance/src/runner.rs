//! Runs and times a compiled case: binds its inputs and places sentinels after its outputs.
//!
//! Used by the driver, and by whoever times kernels.

use crate::{Case, CaseStep, POOL_PAGES, POOL_SLOTS, Weights};
use aio_backend::bindings::OutputWords;
use aio_backend::{Bindings, Data, Device, DeviceError, Executable, LoadOptions, WeightSet};
use aio_ir::{Cost, DType, Dims, Graph, Load, Op, TensorType, quant};
use aio_plan::{Plan, PlanFamily, PoolSizes, StepTime};
use std::collections::BTreeSet;

/// Value of the words after an output, which show whether the device writes past its end.
pub(crate) const SENTINEL: u32 = 0x7fc0_dead;
/// The pools of states.
pub(crate) const POOLS: PoolSizes = PoolSizes { pages: POOL_PAGES, slots: POOL_SLOTS };
/// Number of sentinel words.
const SENTINELS: usize = 16;

/// A result tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultTensor {
    /// Element type.
    pub dtype: DType,
    /// Its bytes as stored.
    pub bytes: Vec<u8>,
}

impl ResultTensor {
    /// The elements of a float type as f32; `None` for other types.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let elems = self.bytes.len() / self.dtype.block_bytes() * self.dtype.block_elems();
        let mut out = vec![0.0; elems];
        quant::dequantize(self.dtype, &self.bytes, &mut out).ok().map(|()| out)
    }
}

/// Time and cost of one step of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Median over the repetitions, in seconds.
    pub seconds: f64,
    /// Bytes and flops of the step according to the cost rules.
    pub cost: Cost,
}

impl Timing {
    /// Bytes read and written per second, in 10^9.
    pub fn gb_s(&self) -> f64 {
        (self.cost.bytes_read as f64 + self.cost.bytes_written as f64) / self.seconds / 1e9
    }

    /// Operations per second, in 10^9.
    pub fn gflop_s(&self) -> f64 {
        self.cost.flops as f64 / self.seconds / 1e9
    }
}

/// A case loaded on a device.
pub struct Run<'a> {
    case: &'a Case,
    family: &'a PlanFamily,
    plan: &'a Plan,
    device: &'a dyn Device,
    weights: WeightSet,
    executable: Box<dyn Executable>,
}

impl<'a> Run<'a> {
    /// Loads a case whose graph was compiled for the device. Runs use the family's first plan.
    ///
    /// # Errors
    /// The errors of [`Device::upload`] and [`Device::load`].
    ///
    /// # Panics
    /// If the family has no plan.
    pub fn new(
        case: &'a Case,
        graph: &Graph,
        family: &'a PlanFamily,
        device: &'a dyn Device,
    ) -> Result<Run<'a>, DeviceError> {
        let weights = device.upload(family, &Weights::of(graph), POOLS)?;
        let plan = family.plans.first().expect("a bucket gives a plan");
        let executable = device.load(family, plan, &weights, &LoadOptions::default())?;
        Ok(Run { case, family, plan, device, weights, executable })
    }

    /// Runs a step and returns its outputs in the plan's order.
    ///
    /// # Errors
    /// The device's errors, and [`DeviceError::Failed`] if it wrote past the end of an output.
    pub fn step(&mut self, index: usize) -> Result<Vec<ResultTensor>, DeviceError> {
        let mut outputs = Vec::new();
        self.submit(index, 1, &mut outputs)?;
        let dims = self.case.steps[index].dims();
        let results = self.plan.outputs.iter().zip(outputs).map(|(binding, words)| {
            let len = binding.ty.bytes(&dims).unwrap_or(0) as usize;
            let bytes: &[u8] = bytemuck::cast_slice(&words);
            if words[len.div_ceil(4)..].iter().any(|&w| w != SENTINEL) {
                return Err(DeviceError::Failed(format!("the device wrote past the end of output `{}`", binding.name)));
            }
            Ok(ResultTensor { dtype: binding.ty.dtype, bytes: bytes[..len].to_vec() })
        });
        results.collect()
    }

    /// Times a step: one warm-up run, then `repetitions` runs. Compile the family for [`Case::bucket_of`] the step, so
    /// that the costs are the step's.
    ///
    /// # Errors
    /// See [`Run::step`].
    pub fn time(&mut self, index: usize, repetitions: usize) -> Result<Timing, DeviceError> {
        let mut seconds = self.submit(index, repetitions.max(1) + 1, &mut Vec::new())?;
        seconds.remove(0);
        seconds.sort_by(f64::total_cmp);
        Ok(Timing { seconds: seconds[seconds.len() / 2], cost: self.cost(index) })
    }

    /// Downloads the states after the steps run so far.
    ///
    /// # Errors
    /// The device's errors.
    pub fn states(&self) -> Result<Vec<ResultTensor>, DeviceError> {
        let states = self.family.states.iter().enumerate();
        let tensor = |(i, s): (usize, &aio_plan::StateDesc)| {
            Ok(ResultTensor { dtype: s.ty.dtype, bytes: self.device.download_state(&self.weights, i)? })
        };
        states.map(tensor).collect()
    }

    /// Runs a step `times` times and returns the seconds of each run.
    fn submit(&mut self, index: usize, times: usize, outputs: &mut Vec<Vec<u32>>) -> Result<Vec<f64>, DeviceError> {
        let mut bound = Bound::new(self.case, self.plan, index);
        let mut seconds = Vec::with_capacity(times);
        for _ in 0..times {
            seconds.push(bound.run(self.plan, &mut *self.executable)?.seconds());
        }
        *outputs = bound.outputs;
        Ok(seconds)
    }

    /// Sum of the tasks' costs, including the context that the rows attend to.
    fn cost(&self, index: usize) -> Cost {
        step_cost(self.plan, &self.case.steps[index])
    }
}

/// The values of a step's inputs, and room for its outputs.
pub(crate) struct Bound {
    dims: Dims,
    values: Vec<Vec<u32>>,
    /// Each followed by sentinels.
    pub(crate) outputs: Vec<Vec<u32>>,
}

impl Bound {
    pub(crate) fn new(case: &Case, plan: &Plan, index: usize) -> Bound {
        let dims = case.steps[index].dims();
        let room = |ty: &TensorType| vec![SENTINEL; ty.bytes(&dims).unwrap_or(0).div_ceil(4) as usize + SENTINELS];
        Bound {
            dims,
            values: plan.inputs.iter().map(|b| case.input(&b.name, &b.ty, index)).collect(),
            outputs: plan.outputs.iter().map(|b| room(&b.ty)).collect(),
        }
    }

    /// Runs the step.
    pub(crate) fn run(&mut self, plan: &Plan, executable: &mut dyn Executable) -> Result<StepTime, DeviceError> {
        let dims = self.dims;
        let data = plan.inputs.iter().zip(&self.values).map(|(b, v)| match b.ty.dtype {
            _ if b.optional => None,
            DType::F32 => Some(Data::F32(bytemuck::cast_slice(v))),
            DType::I32 => Some(Data::I32(bytemuck::cast_slice(v))),
            DType::U32 => Some(Data::U32(v)),
            other => {
                let bytes: &[u8] = bytemuck::cast_slice(v);
                let len = b.ty.bytes(&dims).map_or(0, |n| n as usize);
                Some(Data::Bytes(other, &bytes[..len.min(bytes.len())]))
            }
        });
        let data: Vec<_> = data.collect();
        let mut words: Vec<OutputWords<'_>> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        Ok(executable.submit(&mut Bindings { dims, inputs: &data, outputs: &mut words })?.wait()?.time)
    }
}

/// Sum of the tasks' costs in a step of the plan's bucket, including the context that the rows attend to.
pub(crate) fn step_cost(plan: &Plan, step: &CaseStep) -> Cost {
    let seen: u64 = step.positions.iter().map(|&p| u64::from(p) + 1).sum();
    let context = (seen / step.positions.len().max(1) as u64) as u32;
    let sequences: BTreeSet<u32> = step.row_seq.iter().copied().collect();
    let dims = Dims { pages: 0, stride: 0, seqs: sequences.len() as u32, ..step.dims() };
    let tasks = plan.tasks.iter().map(|t| t.cost);
    let bodies = plan.tasks.iter().map(|t| &*t.body);
    let attends = bodies.flat_map(|b| b.nodes().filter(|(_, n)| n.op == Op::Attend).map(move |(_, n)| (b, n)));
    let extra = attends.map(|(body, node)| {
        let at = |context| body.cost(node, Load { dims, context });
        let (with, without) = (at(context), at(0));
        Cost { bytes_read: with.bytes_read - without.bytes_read, bytes_written: 0, flops: with.flops - without.flops }
    });
    tasks.chain(extra).sum()
}
