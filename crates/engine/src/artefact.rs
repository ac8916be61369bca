//! Makes an artefact of a model, and loads a model from one.
//!
//! An engine behaves the same whether it was loaded from a model or an artefact: plans, packed weights and tokens are
//! equal. Loading an artefact skips compiling and packing. Called by the command line for `aio compile` and the cache.

use crate::EngineError;
use crate::dispatch::Dispatch;
use crate::engine::{
    Engine, EngineOptions, Parts, bucket_rows, buckets, capacity, compile_family, context_of, prefill_rows,
};
use crate::need::MemoryNeed;
use crate::pools::PoolPlan;
use crate::runner::Runner;
use crate::source::ModelWeights;
use aio_backend::{Device, DeviceError, ImageAccess, ImageForm, WeightImage, WeightSet};
use aio_ir::{Dims, Graph};
use aio_model::gguf::Gguf;
use aio_model::{Model, ModelError};
use aio_plan::artefact::{self, Artefact, ArtefactError, Contents, Hash, Header, Written};
use aio_plan::{PlanFamily, PoolSizes, Target};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Hash of all sources that affect the contents of an artefact of this form: graphs and their text, plans, compiler,
/// packing. An artefact with a different hash is stale.
pub fn compiler_hash(form: &ImageForm) -> Hash {
    Hash::of_texts(&[aio_ir::SOURCE_HASH, aio_plan::SOURCE_HASH, aio_compiler::SOURCE_HASH, form.name, form.sources])
}

/// The contents of an artefact: a model's head, its plans and its packed weights.
#[derive(Debug)]
pub struct Compiled {
    head: Vec<u8>,
    family: PlanFamily,
    image: WeightImage,
    form: ImageForm,
}

impl Compiled {
    /// Compiles a model and packs its weights, without allocating a KV cache. `rows` are the step sizes to make plans
    /// for; if it is empty, those that [`Engine::load`] uses with these options.
    ///
    /// # Errors
    /// The errors of [`Engine::load`], and [`DeviceError::NoImage`].
    pub fn new(
        model: &Model,
        graph: &Graph,
        device: &dyn Device,
        options: &EngineOptions,
        rows: &[u32],
    ) -> Result<Compiled, EngineError> {
        model.check_tensors(graph)?;
        let no_image = || DeviceError::NoImage { device: device.target().name };
        let form = device.image_form().ok_or_else(no_image)?;
        let most = options.context.unwrap_or(u32::MAX);
        let mut usual: Vec<u32> = bucket_rows(options, device).into_iter().map(|rows| rows.min(most)).collect();
        usual.dedup();
        let family = compile_family(
            graph,
            device,
            buckets(if rows.is_empty() { &usual } else { rows }, false),
            options.dispatch,
        )?;
        MemoryNeed::of(&family, PoolSizes::pages(1)).check()?;
        let weights = ModelWeights::checked(model, &family)?;
        let set = device.upload(&family, &weights, PoolSizes::pages(1))?;
        model.gguf.check_unchanged().map_err(ModelError::from)?;
        Ok(Compiled { head: head(model)?, image: device.image(&set)?, family, form })
    }

    /// The artefact contents of an engine that was loaded from a model.
    ///
    /// # Errors
    /// [`DeviceError::NoImage`].
    pub fn of(engine: &Engine) -> Result<Compiled, EngineError> {
        let device = engine.device();
        let form = device.image_form().ok_or_else(|| DeviceError::NoImage { device: device.target().name })?;
        let (head, family) = (head(engine.model())?, engine.family().clone());
        Ok(Compiled { head, image: engine.image()?, family, form })
    }

    /// The plans.
    pub fn family(&self) -> &PlanFamily {
        &self.family
    }

    /// Size of the packed weights in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.image.bytes().len() as u64
    }

    /// Writes the artefact. `model` is the hash of the model's content, `key` its name in a cache. See
    /// [`artefact::write`].
    ///
    /// # Errors
    /// [`ArtefactError::Write`].
    pub fn write(
        &self,
        path: &Path,
        model: Hash,
        key: Option<Hash>,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Written, ArtefactError> {
        let (target, form) = (self.family.target.clone(), self.form.name.to_owned());
        let header = Header { target, form, model, compiler: compiler_hash(&self.form), key };
        let (meta, family, weights) = (&self.head[..], &self.family, self.image.bytes());
        artefact::write(path, &Contents { header: &header, meta, family, weights }, progress)
    }
}

fn head(model: &Model) -> Result<Vec<u8>, EngineError> {
    Ok(model.gguf.head().map_err(ModelError::from)?)
}

impl Engine {
    /// Loads a model from an artefact, which must be made for the device's weight form and by this program's compiler.
    /// It may have been compiled on another instruction set, since all share plans and packed form.
    ///
    /// # Errors
    /// [`EngineError::Artefact`] for an unusable artefact, [`EngineError::Memory`] before anything large is allocated,
    /// [`EngineError::Option`] for [`Dispatch::Op`], because an artefact's plans are fused.
    pub fn from_artefact(
        mut artefact: Artefact,
        device: Arc<dyn Device>,
        options: &EngineOptions,
        access: ImageAccess,
    ) -> Result<Engine, EngineError> {
        if options.dispatch == Dispatch::Op {
            let expected = "graph, since a compiled artefact has fused plans; the model file has both";
            return Err(EngineError::Option { name: "dispatch", value: "op".to_owned(), expected });
        }
        let target = device.target();
        let form = device.image_form().ok_or_else(|| DeviceError::NoImage { device: target.name.clone() })?;
        artefact.check_made_for(form.name, compiler_hash(&form))?;
        let head = artefact.take_meta();
        // Plans and head are read concurrently, then weights and tokenizer.
        let (model, loaded) = Model::from_gguf_while(
            || Gguf::from_head(head),
            |hyper| {
                let family = plans(&artefact, target)?;
                let Some(hyper) = hyper() else { return Ok(None) };
                let context = context_of(&hyper, options);
                let pools = PoolPlan::new(&family, capacity(context, options))?;
                let weights = upload(&artefact, &family, &*device, pools.sizes, access)?;
                let bandwidth = options.ceilings_of(&*device).bandwidth;
                let runner = Runner::new(Arc::clone(&device), &family, weights.clone(), options.dispatch, bandwidth)?;
                Ok::<_, EngineError>(Some((context, family, pools, weights, runner)))
            },
        )?;
        let (context, family, pools, weights, runner) = loaded?.expect("a model that was read has hyper-parameters");
        let largest = family.plans.iter().map(|p| p.bucket.rows).max().unwrap_or(1);
        let (pools, prefill_rows) = (pools.make(), prefill_rows(options).min(largest));
        let (ceilings, burst) = (options.ceilings_of(&*device), options.burst);
        let parts = Parts { model, family, device, weights, runner, pools, context, prefill_rows, ceilings, burst };
        Engine::assemble(parts, options.dispatch)
    }
}

/// Decodes an artefact's plans for a target.
pub(crate) fn plans(artefact: &Artefact, target: Target) -> Result<PlanFamily, EngineError> {
    let mut family = artefact.family()?;
    if !family.alignment.is_multiple_of(target.alignment.max(1)) {
        let reason = format!("buffers are aligned to {}, this device needs {}", family.alignment, target.alignment);
        return Err(ArtefactError::Plans { reason }.into());
    }
    let named = family.weights.iter().filter_map(|w| w.ty.bytes(&Dims::default())).fold(0u64, u64::saturating_add);
    if named > artefact.weights().bytes() {
        // A packed weight is never smaller than the model's own.
        let reason = format!("they name {named} bytes of weights, there are {}", artefact.weights().bytes());
        return Err(ArtefactError::Plans { reason }.into());
    }
    family.target = target.name;
    Ok(family)
}

/// Uploads an artefact's weights to a device.
fn upload(
    artefact: &Artefact,
    family: &PlanFamily,
    device: &dyn Device,
    pools: PoolSizes,
    access: ImageAccess,
) -> Result<WeightSet, EngineError> {
    let weights = if access == ImageAccess::Map { 0 } else { artefact.weights().bytes() };
    let need = MemoryNeed { weights, ..MemoryNeed::of(family, pools) };
    need.check_on(device, || device.scratch_bytes(family, pools))?;
    Ok(device.upload_image(family, artefact.weights(), access, pools)?)
}
