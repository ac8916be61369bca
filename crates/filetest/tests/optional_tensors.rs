//! Tensors and keys that only some models have, compared with a plain forward pass in f64 that shares no code with aio.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_backend_cuda::EmulationOptions;
use aio_engine::{Dispatch, Engine, EngineOptions};
use aio_filetest::edit::{File, FileTensor};
use aio_filetest::{cuda, logits, tiny};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_model::synth::{OPTIONAL, Preset};
use std::sync::Arc;

const ROWS: usize = 9;
/// Sizes of the models.
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 32;
const FF: usize = 96;

/// A small Llama with f32 weights and the given optional tensors.
fn file(optional: &[&str]) -> File {
    let mut preset = Preset::find("llama-1b").unwrap().tiny();
    (preset.embedding_length, preset.feed_forward_length) = (WIDTH as u32, FF as u32);
    (preset.head_count, preset.head_count_kv, preset.head_length) = (HEADS as u32, KV_HEADS as u32, HEAD as u32);
    preset.optional = optional.iter().map(|&o| o.to_owned()).collect();
    File::of(&preset, DType::F32)
}

fn engine(file: &File, device: Arc<dyn Device>, dispatch: Dispatch) -> Engine {
    let model = file.model().unwrap();
    let graph = model.graph(&tiny::templates(), None).unwrap();
    Engine::load(model, &graph, device, &EngineOptions { context: Some(64), dispatch, ..EngineOptions::default() })
        .unwrap()
}

fn run(file: &File, device: Arc<dyn Device>, dispatch: Dispatch) -> Vec<f64> {
    let bits = logits::chunked(&engine(file, device, dispatch), ROWS, 4);
    bits.into_iter().map(|b| f64::from(f32::from_bits(b))).collect()
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap())
}

/// The forward pass of a file.
struct Plain<'f> {
    file: &'f File,
    /// Factor applied to queries and keys.
    magnitude: f64,
}

impl Plain<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.tensors.iter().any(|t| t.name == name)
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        self.file.floats(name).into_iter().map(f64::from).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (square + f64::from(1e-5f32)).sqrt();
        x.iter().zip(self.floats(name)).map(|(v, w)| v * factor * w).collect()
    }

    /// A product with its scale and bias. The scale comes first in attention and head, the bias in the feed-forward
    /// network.
    fn project(&self, x: &[f64], name: &str, matrix: &str) -> Vec<f64> {
        let w = self.floats(matrix);
        let mut y: Vec<f64> = w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect();
        let scale = |y: &mut Vec<f64>| {
            if self.has(&format!("{name}.scale")) {
                let s = self.floats(&format!("{name}.scale"))[0];
                y.iter_mut().for_each(|v| *v *= s);
            }
        };
        let ffn = name.contains("ffn");
        if !ffn {
            scale(&mut y);
        }
        if self.has(&format!("{name}.bias")) {
            y.iter_mut().zip(self.floats(&format!("{name}.bias"))).for_each(|(v, b)| *v += b);
        }
        if ffn {
            scale(&mut y);
        }
        y
    }

    /// Rotates adjacent pairs of each head.
    fn rotate(&self, x: &mut [f64], position: usize) {
        let factors = self.has("rope_freqs.weight").then(|| self.floats("rope_freqs.weight"));
        for head in x.chunks_mut(HEAD) {
            for i in 0..HEAD / 2 {
                let frequency = 5e5f64.powf(-2.0 * i as f64 / HEAD as f64) / factors.as_ref().map_or(1.0, |f| f[i]);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[2 * i], head[2 * i + 1]);
                head[2 * i] = (a * cos - b * sin) * self.magnitude;
                head[2 * i + 1] = (a * sin + b * cos) * self.magnitude;
            }
        }
    }

    fn logits(&self) -> Vec<f64> {
        let embedding = self.floats("token_embd.weight");
        let row = |t: u32| embedding[t as usize * WIDTH..][..WIDTH].to_vec();
        let mut rows: Vec<Vec<f64>> = (0..ROWS).map(|p| row(logits::token(p))).collect();
        for layer in 0..2 {
            self.layer(&mut rows, &format!("blk.{layer}"));
        }
        let head = if self.has("output.weight") { "output.weight" } else { "token_embd.weight" };
        rows.iter().flat_map(|x| self.project(&self.norm(x, "output_norm.weight"), "output", head)).collect()
    }

    fn layer(&self, rows: &mut [Vec<f64>], b: &str) {
        let project = |x: &[f64], name: &str| self.project(x, &format!("{b}.{name}"), &format!("{b}.{name}.weight"));
        let (mut keys, mut values): (Vec<Vec<f64>>, Vec<Vec<f64>>) = Default::default();
        for (position, x) in rows.iter_mut().enumerate() {
            let h = self.norm(x, &format!("{b}.attn_norm.weight"));
            let [mut q, mut k, v] = ["attn_q", "attn_k", "attn_v"].map(|name| project(&h, name));
            self.rotate(&mut q, position);
            self.rotate(&mut k, position);
            keys.push(k);
            values.push(v);
            let attended: Vec<f64> = (0..HEADS).flat_map(|head| attend(&q, head, &keys, &values)).collect();
            add(x, &project(&attended, "attn_output"));
            let f = self.norm(x, &format!("{b}.ffn_norm.weight"));
            let (gate, up) = (project(&f, "ffn_gate"), project(&f, "ffn_up"));
            let gated: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            add(x, &project(&gated, "ffn_down"));
        }
    }
}

fn attend(q: &[f64], head: usize, keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let own = head * KV_HEADS / HEADS * HEAD;
    let q = &q[head * HEAD..][..HEAD];
    let score = |k: &Vec<f64>| q.iter().zip(&k[own..]).map(|(a, b)| a * b).sum::<f64>() / (HEAD as f64).sqrt();
    let weights: Vec<f64> = keys.iter().map(|k| score(k).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..HEAD).map(|i| weights.iter().zip(values).map(|(w, v)| w * v[own + i]).sum::<f64>() / total).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(a, b)| *a += b);
}

/// The squared error of `got` relative to `want`.
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |v: f64| v * v;
    let differ: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    differ / want.iter().map(|w| square(*w)).sum::<f64>()
}

/// Checks a file on the oracle, the CPU, the CPU op by op, and the emulated GPU if there is a C++ compiler.
fn check(what: &str, file: &File, magnitude: f64) {
    let want = Plain { file, magnitude }.logits();
    // The cache stores f16.
    let exact = error(&run(file, Arc::new(InterpDevice::default()), Dispatch::Graph), &want);
    assert!(exact < 1e-6, "{what} on the oracle: {exact:e}");
    for dispatch in [Dispatch::Graph, Dispatch::Op] {
        // Activations are rounded to 8 bits.
        let rounded = error(&run(file, cpu(), dispatch), &want);
        assert!(rounded < 2e-3, "{what} on the CPU, {dispatch:?}: {rounded:e}");
    }
    if let Some(device) = cuda::device("optional_tensors", EmulationOptions::default()) {
        let emulated = error(&run(file, Arc::new(device), Dispatch::Graph), &want);
        assert!(emulated < 1e-6, "{what} on the emulated GPU: {emulated:e}");
    }
}

#[test]
fn every_optional_tensor_is_computed() {
    // Head norms exist only in Qwen3.
    let all: Vec<&str> = OPTIONAL.iter().copied().filter(|name| !name.contains("_norm")).collect();
    check("none", &file(&[]), 1.0);
    check("all", &file(&all), 1.0);
    let base = run(&file(&[]), Arc::new(InterpDevice::default()), Dispatch::Graph);
    for name in all {
        let changed = file(&[name]);
        let want = Plain { file: &changed, magnitude: 1.0 }.logits();
        let got = run(&changed, Arc::new(InterpDevice::default()), Dispatch::Graph);
        assert!(error(&got, &want) < 1e-6, "{name}");
        // The separate head has different weights; the other tensors change the logits a little.
        assert!(error(&got, &base) > 1e-5, "{name} changes the logits");
    }
}

#[test]
fn a_bias_that_only_some_layers_have_runs() {
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        let bias = format!("{name}.bias");
        let file = file(&[bias.as_str()]).without(&format!("blk.0.{bias}"));
        check(&format!("{bias} in one layer"), &file, 1.0);
    }
}

#[test]
fn attention_factors_without_yarn_are_computed() {
    let file = file(&["rope_freqs.weight"]).set("llama.rope.scaling.attn_factor", 1.5f32);
    check("attn_factor", &file, 1.5);
}

#[test]
fn one_matrix_for_query_key_and_value_is_three() {
    let mut joined = file(&["attn_q.bias", "attn_k.bias", "attn_v.bias"]);
    let apart = joined.clone();
    for layer in 0..2 {
        for end in ["weight", "bias"] {
            let part = |p: &str| format!("blk.{layer}.attn_{p}.{end}");
            let parts: Vec<FileTensor> = ["q", "k", "v"].iter().map(|p| joined.get(&part(p)).clone()).collect();
            let mut dims = parts[0].dims.clone();
            *dims.last_mut().unwrap() = parts.iter().map(|t| t.dims.last().unwrap()).sum();
            let bytes = parts.iter().flat_map(|t| t.bytes.clone()).collect();
            joined = parts.iter().fold(joined, |f, t| f.without(&t.name));
            joined = joined.tensor(FileTensor { name: part("qkv"), dtype: DType::F32, dims, bytes });
        }
    }
    let want = Plain { file: &apart, magnitude: 1.0 }.logits();
    for (device, bound) in [(Arc::new(InterpDevice::default()) as Arc<dyn Device>, 1e-6), (cpu(), 2e-3)] {
        assert!(error(&run(&joined, device, Dispatch::Graph), &want) < bound);
    }
}
