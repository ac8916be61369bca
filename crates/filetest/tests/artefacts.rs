//! Artefacts: plans read back as written, all damage is detected, and tokens match those of the model file.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Device, DeviceError, ImageAccess};
use aio_backend_cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio_engine::{Compiled, Engine, EngineError, EngineOptions, Flow, Request, Sampling};
use aio_filetest::tiny;
use aio_interp::InterpDevice;
use aio_ir::{DType, Dims};
use aio_plan::artefact::{Artefact, ArtefactError, CHUNK_BYTES, Hash, WeightFile, decode, encode};
use aio_plan::{PlanFamily, PoolSizes, verify};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MODEL: Hash = Hash([7; 32]);

fn cpu(isa: Option<IsaLevel>, threads: usize) -> Arc<CpuDevice> {
    Arc::new(CpuDevice::new(CpuOptions { threads, isa, pin: false }).unwrap())
}

fn options() -> EngineOptions {
    EngineOptions { context: Some(128), prefill_rows: 32, ..EngineOptions::default() }
}

fn compiled(preset: &str, weights: DType, device: &dyn Device) -> Compiled {
    let (model, graph) = tiny::model(preset, weights, 7);
    Compiled::new(&model, &graph, device, &options(), &[]).unwrap()
}

/// An artefact of a two-layer model.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(preset: &str, weights: DType) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let written = compiled(preset, weights, &*cpu(None, 2)).write(&place.path(), MODEL, None, &mut go_on).unwrap();
        assert_eq!(written.bytes, std::fs::metadata(place.path()).unwrap().len());
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.aio")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// Opens the artefact with other bytes.
    fn open(&self, bytes: &[u8]) -> Result<Artefact, ArtefactError> {
        let path = self.folder.path().join("changed.aio");
        std::fs::write(&path, bytes).unwrap();
        Artefact::open(&path)
    }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn tokens(engine: &Engine) -> Vec<u32> {
    let mut request = Request::new((1..40).collect(), Sampling::greedy());
    (request.max_tokens, request.ignore_eog) = (Some(12), true);
    engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
}

fn load(path: &Path, device: Arc<dyn Device>, access: ImageAccess) -> Result<Engine, EngineError> {
    Engine::from_artefact(Artefact::open(path)?, device, &options(), access)
}

#[test]
fn families_of_all_architectures_read_back_equal() {
    for (_, preset) in tiny::architectures() {
        let compiled = compiled(&preset, DType::Q4_1, &*cpu(None, 1));
        let family = compiled.family();
        let bytes = encode(family);
        let back = decode(&bytes).unwrap();
        assert_eq!(&back, family, "{preset}");
        assert_eq!(encode(&back), bytes, "{preset}");
        let shared = back.plans.iter().flat_map(|p| &p.tasks).filter(|t| Arc::strong_count(&t.body) > 1).count();
        assert!(shared > 10, "{preset}: tasks share {shared} bodies");
    }
    let unfused = EngineOptions { dispatch: aio_engine::Dispatch::Op, ..options() };
    let (model, graph) = tiny::model("qwen3-0.6b", DType::F16, 7);
    let compiled = Compiled::new(&model, &graph, &*cpu(None, 1), &unfused, &[1, 3]).unwrap();
    assert_eq!(&decode(&encode(compiled.family())).unwrap(), compiled.family());
}

fn small_family() -> PlanFamily {
    let (model, graph) = tiny::model("llama-1b", DType::Q8_0, 7);
    Compiled::new(&model, &graph, &*cpu(None, 1), &options(), &[1]).unwrap().family().clone()
}

#[test]
fn hostile_plans_are_errors_or_valid() {
    let family = small_family();
    let bytes = encode(&family);
    let size =
        |f: &PlanFamily| f.weights.iter().map(|w| w.ty.bytes(&Dims::default()).unwrap()).fold(0, u64::saturating_add);
    let device = cpu(None, 1);
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
    }
    assert!(matches!(decode(&[&bytes[..], &[0]].concat()), Err(ArtefactError::Plans { .. })));
    let (mut state, mut refused, mut rules) = (1u64, 0, 0);
    let cases = 3000;
    for _ in 0..cases {
        let mut changed = bytes.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % changed.len();
            changed[at] ^= 1 << (state >> 29 & 7);
        }
        match decode(&changed) {
            Ok(changed) => {
                verify(&changed).unwrap();
                if size(&changed) <= size(&family) {
                    // Binds every task to its kernels, as loading does.
                    device.scratch_bytes(&changed, PoolSizes::pages(1));
                }
            }
            Err(ArtefactError::Rule(_)) => (refused, rules) = (refused + 1, rules + 1),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > cases / 2 && rules > 0, "{refused} refused, {rules} of them by a rule");
}

#[test]
fn compiling_twice_gives_the_same_bytes_on_any_threads() {
    let place = Place::new("qwen3-0.6b", DType::Q4K);
    let again = place.folder.path().join("again.aio");
    for threads in [1, 3] {
        let compiled = compiled("qwen3-0.6b", DType::Q4K, &*cpu(None, threads));
        compiled.write(&again, MODEL, None, &mut go_on).unwrap();
        assert!(std::fs::read(&again).unwrap() == place.bytes(), "{threads} threads: other bytes");
    }
}

#[test]
fn tokens_are_those_of_the_model() {
    for (_, preset) in tiny::architectures() {
        let place = Place::new(&preset, DType::Q4_0);
        let want = tokens(&tiny::engine(&preset, DType::Q4_0, cpu(None, 2), &options()));
        assert_eq!(want.len(), 12);
        for access in [ImageAccess::Read, ImageAccess::Map] {
            let engine = load(&place.path(), cpu(None, 2), access).unwrap();
            assert_eq!(tokens(&engine), want, "{preset} {access:?}");
            assert_eq!(engine.prefill_rows(), 32);
        }
    }
}

#[test]
fn levels_take_each_others_artefacts() {
    let place = Place::new("llama-1b", DType::Q5_0);
    let portable = || cpu(Some(IsaLevel::Portable), 1);
    let want = tokens(&tiny::engine("llama-1b", DType::Q5_0, portable(), &options()));
    let engine = load(&place.path(), portable(), ImageAccess::Read).unwrap();
    assert_eq!(tokens(&engine), want);
    assert_eq!(engine.family().target, "cpu-portable");
    let error = load(&place.path(), Arc::new(InterpDevice::default()), ImageAccess::Read).unwrap_err();
    assert!(matches!(error, EngineError::Device(DeviceError::NoImage { .. })), "{error}");
}

/// Indices of the chunks that do not read back.
fn damaged(weights: &WeightFile) -> Vec<usize> {
    let bad = |&chunk: &usize| {
        let range = weights.chunk(chunk);
        let mut out = vec![0; (range.end - range.start) as usize];
        weights.read_chunk(chunk, &mut out).is_err()
    };
    (0..weights.chunks()).filter(bad).collect()
}

#[test]
fn a_flipped_byte_is_seen_wherever_it_is() {
    let place = Place::new("qwen2-0.5b", DType::F32);
    let bytes = place.bytes();
    let weights = place.open(&bytes).unwrap().weights().bytes() as usize;
    assert!(weights as u64 > 2 * CHUNK_BYTES, "{weights} bytes are more than one chunk");
    let front = bytes.len() - weights;
    for at in (0..600).chain((600..front).step_by(97)).chain(front - 80..front) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(place.open(&changed[..]).is_err(), "byte {at}");
    }
    for chunk in 0..weights.div_ceil(CHUNK_BYTES as usize) {
        let mut changed = bytes.clone();
        changed[front + (chunk * CHUNK_BYTES as usize + 4711 * chunk).min(weights - 1)] ^= 1;
        let artefact = place.open(&changed).unwrap();
        assert_eq!(damaged(artefact.weights()), [chunk]);
        let error = Engine::from_artefact(artefact, cpu(None, 2), &options(), ImageAccess::Read).unwrap_err();
        assert!(error.to_string().contains(&format!("checksum of chunk {chunk} of ")), "{error}");
    }
}

#[test]
fn a_cut_is_seen_wherever_it_is() {
    let place = Place::new("llama-1b", DType::Q4_1);
    let bytes = place.bytes();
    let front = bytes.len() - place.open(&bytes).unwrap().weights().bytes() as usize;
    for len in (0..600).chain((600..front).step_by(513)).chain([front, front + 1, bytes.len() - 1]) {
        let error = place.open(&bytes[..len]).unwrap_err();
        assert!(matches!(error, ArtefactError::Length { .. }), "{len}: {error}");
    }
    let longer = place.open(&[&bytes[..], &[0]].concat()).unwrap_err();
    assert!(matches!(longer, ArtefactError::Length { .. }), "{longer}");
}

#[test]
fn the_engine_refuses_what_does_not_fit_or_is_stale() {
    let place = Place::new("llama-1b", DType::Q4_1);
    let open = || Artefact::open(&place.path()).unwrap();
    let artefact = open();
    assert_eq!(artefact.header().model, MODEL);
    let huge = EngineOptions { context: Some(u32::MAX), ..options() };
    let error = Engine::from_artefact(open(), cpu(None, 1), &huge, ImageAccess::Read).unwrap_err();
    let EngineError::Memory { need, .. } = error else { panic!("{error}") };
    assert_eq!(need.weights, artefact.weights().bytes());
    let error = Engine::from_artefact(open(), cpu(None, 1), &huge, ImageAccess::Map).unwrap_err();
    let EngineError::Memory { need, .. } = error else { panic!("{error}") };
    assert_eq!(need.weights, 0, "mapped weights take no memory of the process");
    let op = EngineOptions { dispatch: aio_engine::Dispatch::Op, ..options() };
    let error = Engine::from_artefact(open(), cpu(None, 1), &op, ImageAccess::Read).unwrap_err();
    assert!(matches!(error, EngineError::Option { name: "dispatch", .. }), "{error}");
    let error = artefact.check_made_for("cuda", artefact.header().compiler).unwrap_err();
    assert!(matches!(error, ArtefactError::Form { .. }), "{error}");
    let error = artefact.check_made_for(&artefact.header().form, MODEL).unwrap_err();
    assert!(matches!(error, ArtefactError::Stale { .. }), "{error}");
}

#[test]
fn an_interrupted_or_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = compiled("llama-1b", DType::Q4_0, &*cpu(None, 1));
    let path = folder.path().join("model.aio");
    let error = compiled.write(&path, MODEL, None, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, ArtefactError::Write { .. }), "{error}");
    assert!(compiled.write(folder.path(), MODEL, None, &mut go_on).is_err(), "a folder is no place for a file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
