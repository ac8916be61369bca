//! Steps of our own plans on the simulated Ascend, walked for their modelled time. Nothing is computed, so no model needs
//! weights.

use aio::ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio::backend::{Bindings, Data, Device, Executable, LoadOptions, WeightData, WeightSet, WeightSource};
use aio::compiler::{Options, compile};
use aio::ir::{DType, Dims, verify};
use aio::model::Model;
use aio::model::gguf::Gguf;
use aio::model::synth::{Preset, Synth};
use aio::plan::{Bucket, PlanFamily, PoolSizes, StepInput, Tail};
use anyhow::{Context, Result, ensure};

/// Pages of the KV pool; enough for the largest batch that is walked.
const PAGES: u32 = 640;
/// Positions of a page.
pub(crate) const PAGE: u32 = 128;

/// How steps are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub lengths: Lengths,
    /// Whether steps are captured.
    pub graphs: bool,
    /// Whether operators are fused.
    pub fuse: bool,
    /// Whether matrices are 4-bit integers with a scale for each group, instead of halves.
    pub groups: bool,
}

impl Form {
    /// Fused and captured, with buckets of lengths.
    pub(crate) const GRAPH: Form = Form { lengths: Lengths::Bucket, graphs: true, fuse: true, groups: false };
    /// The same with patched lengths.
    pub(crate) const PATCH: Form = Form { lengths: Lengths::Patch, ..Form::GRAPH };
}

/// Opens the simulated Ascend with the constants of a chip and a host.
pub(crate) fn device(chip: &str, host: &str, form: Form) -> Result<AscendDevice> {
    let options = AscendOptions {
        lengths: Some(form.lengths),
        graphs: form.graphs,
        groups: form.groups,
        dry: true,
        ..AscendOptions::default()
    };
    let mut device = AscendDevice::open(AclLibrary::simulated()?, options)?;
    device.model("device", chip)?;
    device.model("host", host)?;
    Ok(device)
}

/// The preset of a name.
pub(crate) fn preset(name: &str) -> Result<Preset> {
    Preset::find(name).with_context(|| format!("there is no preset `{name}`"))
}

/// No weights.
struct Nothing;

impl WeightSource for Nothing {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        None
    }
}

/// A sequence of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Its rows; the last one is at the last position.
    pub rows: u32,
    /// Its positions, those rows included.
    pub len: u32,
}

/// A model on the simulated Ascend, with one plan for each number of rows.
pub(crate) struct Walk {
    device: AscendDevice,
    chip: String,
    family: PlanFamily,
    /// The plans' weights and states live as long as this.
    _weights: WeightSet,
    /// One for each plan of the family.
    executables: Vec<Box<dyn Executable>>,
}

impl Walk {
    /// Compiles a model of a preset's shape, without weights, for steps of these rows.
    pub(crate) fn new(chip: &str, preset: &Preset, form: Form, rows: &[u32]) -> Result<Walk> {
        let dtype = if form.groups { DType::Q4_0 } else { DType::F16 };
        let head = Synth::new(preset, dtype, 1)?.head()?;
        Walk::of(chip, &Model::from_gguf(Gguf::from_head(head)?)?, form, rows)
    }

    /// Compiles a model for steps of these rows. Its weights are not read.
    pub(crate) fn of(chip: &str, model: &Model, form: Form, rows: &[u32]) -> Result<Walk> {
        let device = device(chip, "native", form)?;
        let graph = model.paged_graph(&aio::templates(), None, device.target().page_positions())?;
        let buckets = rows.iter().map(|&rows| Bucket::new(rows, rows, Tail::Argmax)).collect();
        let family = compile(verify(&graph)?, &device.target(), &Options { buckets, fuse: form.fuse })?.family;
        let weights = device.upload(&family, &Nothing, PoolSizes { pages: PAGES, slots: 1 })?;
        let load = |plan| device.load(&family, plan, &weights, &LoadOptions::default());
        let executables = family.plans.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Walk { device, chip: chip.to_owned(), family, _weights: weights, executables })
    }

    /// The model's plans.
    pub(crate) fn family(&self) -> &PlanFamily {
        &self.family
    }

    /// Takes the constants of a host, and of the chip again.
    pub(crate) fn host(&mut self, host: &str) -> Result<()> {
        self.device.model("device", &self.chip)?;
        self.device.model("host", host)?;
        Ok(())
    }

    /// Overrides a constant until [`Walk::host`] is called.
    pub(crate) fn constant(&mut self, name: &str, value: f64) -> Result<()> {
        Ok(self.device.control(&format!("constant.{name}"), &value.to_string())?)
    }

    /// Modelled seconds of a decode step of one sequence.
    pub(crate) fn decode(&mut self, len: u32) -> Result<f64> {
        self.step(0, &[Rows { rows: 1, len }])
    }

    /// Modelled seconds of a step, by the index of its plan. Every row asks for a token.
    pub(crate) fn step(&mut self, plan: usize, sequences: &[Rows]) -> Result<f64> {
        let (plan, executable) = (self.family.plans.get(plan), self.executables.get_mut(plan));
        let (plan, executable) = plan.zip(executable).context("there is no such plan")?;
        let inputs = Inputs::new(sequences)?;
        let data: Vec<Option<Data<'_>>> =
            plan.inputs.iter().map(|b| inputs.data(StepInput::from_name(&b.name)?)).collect();
        let mut outputs: Vec<Vec<u32>> =
            plan.outputs.iter().map(|b| vec![0; b.ty.bytes(&inputs.dims).unwrap_or(0).div_ceil(4) as usize]).collect();
        let mut seconds = 0.0;
        // The first run captures the shape.
        for _ in 0..2 {
            let mut words: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            let mut bindings = Bindings { dims: inputs.dims, inputs: &data, outputs: &mut words };
            seconds = executable.submit(&mut bindings)?.wait()?.time.seconds();
        }
        Ok(seconds)
    }
}

/// What a step binds.
struct Inputs {
    dims: Dims,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    row_seq: Vec<u32>,
    page_table: Vec<u32>,
    out_rows: Vec<u32>,
}

impl Inputs {
    fn new(sequences: &[Rows]) -> Result<Inputs> {
        let each = |s: &Rows| s.len.div_ceil(PAGE);
        let rows: u32 = sequences.iter().map(|s| s.rows).sum();
        let stride = sequences.iter().map(each).max().unwrap_or(0);
        let taken: u32 = sequences.iter().map(each).sum();
        ensure!(taken < PAGES, "a step of {taken} pages, of {PAGES}");
        let (mut positions, mut row_seq, mut page_table, mut page) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (sequence, i) in sequences.iter().zip(0..) {
            positions.extend(sequence.len - sequence.rows..sequence.len);
            row_seq.resize(positions.len(), i);
            page_table.extend(page..page + each(sequence));
            page_table.resize((i as usize + 1) * stride as usize, 0);
            page += each(sequence);
        }
        let seqs = sequences.len() as u32;
        Ok(Inputs {
            dims: Dims { rows, seqs, pages: PAGES, stride, outs: rows, recent: 0, slots: 1 },
            tokens: vec![1; rows as usize],
            positions,
            row_seq,
            page_table,
            out_rows: (0..rows).collect(),
        })
    }

    fn data(&self, input: StepInput) -> Option<Data<'_>> {
        match input {
            StepInput::Tokens => Some(Data::U32(&self.tokens)),
            StepInput::Positions => Some(Data::U32(&self.positions)),
            StepInput::RowSeq => Some(Data::U32(&self.row_seq)),
            StepInput::PageTable => Some(Data::U32(&self.page_table)),
            StepInput::OutRows => Some(Data::U32(&self.out_rows)),
            _ => None,
        }
    }
}
