//! Synthetic models: valid GGUF files with random weights, for tests and benchmarks.
//!
//! A file has the shape of a real model, weights with finite activations, and a byte-level tokenizer, so that both aio
//! and llama.cpp load and run it. The weights stream block by block; memory use does not grow with the model. Called by
//! `aio synth` and by tests.

mod noise;
mod preset;

pub use preset::{Preset, presets};

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use aio_ir::DType;

use crate::gguf::GgufError;
use crate::gguf::write::{GgufWriter, TensorSpec};
use crate::tokenizer::byte_to_char;
use noise::Noise;

/// Minimum vocabulary: 256 bytes, one merged token and the control tokens.
pub const MIN_VOCAB: u32 = 256 + 1 + CONTROL.len() as u32;
/// Tensors that a preset may have in addition to those of every model.
pub const OPTIONAL: &[&str] = &[
    "rope_freqs.weight",
    "attn_q.bias",
    "attn_k.bias",
    "attn_v.bias",
    "attn_output.bias",
    "ffn_gate.bias",
    "ffn_up.bias",
    "ffn_down.bias",
    "attn_q.scale",
    "attn_k.scale",
    "attn_v.scale",
    "attn_output.scale",
    "ffn_gate.scale",
    "ffn_up.scale",
    "ffn_down.scale",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "output.weight",
    "output.bias",
    "output.scale",
];
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const CHATML: &str = concat!(
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
);

/// Why a synthetic model cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// Writing failed.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The type cannot hold weights.
    #[error("{dtype} is not a weight type")]
    Type {
        /// The type asked for.
        dtype: DType,
    },
    /// The vocabulary has no room for bytes and control tokens.
    #[error("a vocabulary of {got} is too small, {MIN_VOCAB} tokens are needed")]
    Vocab {
        /// The size asked for.
        got: u32,
    },
    /// The preset has an optional tensor that aio does not write.
    #[error("the preset has the unknown optional tensor {name:?}; expected one of [{}]", OPTIONAL.join(", "))]
    Optional {
        /// The name.
        name: String,
    },
    /// A dimension is 0.
    #[error("{field} must not be 0")]
    Zero {
        /// The field of the preset.
        field: &'static str,
    },
    /// The caller stopped the writing.
    #[error("stopped before the model was written")]
    Stopped,
}

/// Bytes between two calls of the progress function.
const WATCHED_BYTES: u64 = 1 << 20;

/// Forwards bytes and reports their number to the caller, who may stop.
struct Watched<'a> {
    out: &'a mut dyn Write,
    progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    untold: u64,
}

impl Watched<'_> {
    /// Reports the bytes not yet reported.
    fn tell(&mut self) -> io::Result<()> {
        match (self.progress)(std::mem::take(&mut self.untold)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::Error::other("stopped")),
        }
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.untold += written as u64;
        if self.untold >= WATCHED_BYTES {
            self.tell()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A tensor with another type than requested, because its rows are not whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The tensor.
    pub tensor: String,
    /// Its row length.
    pub row: u64,
    /// The type requested.
    pub wanted: DType,
    /// The type used.
    pub got: DType,
}

/// A synthetic model, ready to write.
#[derive(Debug)]
pub struct Synth {
    writer: GgufWriter,
    seed: u64,
    fallbacks: Vec<Fallback>,
    rope_freq_base: f32,
}

impl Synth {
    /// Plans a model of this shape with matrices of type `dtype`; norms and biases are f32.
    ///
    /// # Errors
    /// [`SynthError`] if the type or the shape is invalid.
    pub fn new(preset: &Preset, dtype: DType, seed: u64) -> Result<Synth, SynthError> {
        check(preset, dtype)?;
        let (writer, rope_freq_base) = (GgufWriter::new(), preset.rope_freq_base);
        let mut synth = Synth { writer, seed, fallbacks: Vec::new(), rope_freq_base };
        synth.add_metadata(preset);
        synth.add_tokenizer(preset);
        synth.add_tensors(preset, dtype);
        Ok(synth)
    }

    /// The tensors with another type than requested.
    pub fn fallbacks(&self) -> &[Fallback] {
        &self.fallbacks
    }

    /// Size of the file in bytes.
    ///
    /// # Errors
    /// [`SynthError::Gguf`] for shapes that overflow.
    pub fn file_bytes(&self) -> Result<u64, SynthError> {
        Ok(self.writer.file_bytes()?)
    }

    /// The file up to its tensor data: shape, tokenizer and graph of a model whose weights are not needed.
    ///
    /// # Errors
    /// [`SynthError::Gguf`] for shapes that overflow.
    pub fn head(&self) -> Result<Vec<u8>, SynthError> {
        Ok(self.writer.head()?)
    }

    /// Writes the file. `progress` receives the number of tensor bytes written since the last call, every MiB and at
    /// the end of each tensor, and may stop the writing.
    ///
    /// # Errors
    /// [`SynthError::Gguf`], and [`SynthError::Stopped`] if `progress` stops the writing; no file remains then.
    pub fn write_to(&self, path: &Path, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<(), SynthError> {
        let (mut index, mut stopped) = (0, false);
        let mut watch = |bytes| {
            let flow = progress(bytes);
            stopped |= flow.is_break();
            flow
        };
        let mut data = |spec: &TensorSpec, out: &mut dyn Write| {
            let mut out = Watched { out, progress: &mut watch, untold: 0 };
            self.write_tensor(index, spec, &mut out)?;
            index += 1;
            out.tell()
        };
        match self.writer.write_to(path, &mut data) {
            Err(_) if stopped => Err(SynthError::Stopped),
            written => Ok(written?),
        }
    }

    /// The complete file in memory, for tests.
    ///
    /// # Errors
    /// [`SynthError::Gguf`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, SynthError> {
        let mut index = 0;
        let mut data = |spec: &TensorSpec, out: &mut dyn Write| {
            self.write_tensor(index, spec, out)?;
            index += 1;
            Ok(())
        };
        Ok(self.writer.to_bytes(&mut data)?)
    }

    fn write_tensor(&self, index: u64, spec: &TensorSpec, out: &mut dyn Write) -> io::Result<()> {
        let mut noise = Noise::new(self.seed, index);
        let elems = spec.dims.iter().product();
        if spec.name == "rope_freqs.weight" {
            return (0..elems).try_for_each(|i| out.write_all(&self.llama3_rope_factor(i, elems).to_le_bytes()));
        }
        // Rows with standard deviation 1/sqrt(length) preserve the magnitude of their input.
        let (mean, sigma) = match spec.dims.as_slice() {
            [_] if spec.name.ends_with("norm.weight") || spec.name.ends_with(".scale") => (1.0, 0.1),
            [_] => (0.0, 0.1),
            [row, ..] => (0.0, 1.0 / (*row as f32).sqrt()),
            [] => (0.0, 1.0),
        };
        noise::write(&mut noise, spec.dtype, elems, mean, sigma, out)
    }

    /// Llama 3.2's divisor of the i-th of n rotary frequencies: 32 for slow ones, 1 for fast ones.
    fn llama3_rope_factor(&self, i: u64, n: u64) -> f32 {
        let (factor, low, high, trained) = (32.0, 1.0, 4.0, 8192.0);
        let frequency = f64::from(self.rope_freq_base).powf(-(i as f64) / n as f64);
        let rotations = trained * frequency / std::f64::consts::TAU;
        let between = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - between) / factor + between)) as f32
    }

    fn add_metadata(&mut self, p: &Preset) {
        let w = &mut self.writer;
        w.set("general.architecture", p.architecture.as_str()).set("general.type", "model");
        w.set("general.name", format!("synthetic {}", p.name)).set("general.quantization_version", 2u32);
        let mut set = |name: &str, value: u32| {
            w.set(&format!("{}.{name}", p.architecture), value);
        };
        set("block_count", p.block_count);
        set("context_length", p.context_length);
        set("embedding_length", p.embedding_length);
        set("feed_forward_length", p.feed_forward_length);
        set("attention.head_count", p.head_count);
        set("attention.head_count_kv", p.head_count_kv);
        set("attention.key_length", p.head_length);
        set("attention.value_length", p.head_length);
        set("rope.dimension_count", p.head_length);
        set("vocab_size", p.vocab_size);
        w.set(&format!("{}.attention.layer_norm_rms_epsilon", p.architecture), p.rms_epsilon);
        w.set(&format!("{}.rope.freq_base", p.architecture), p.rope_freq_base);
    }

    fn add_tokenizer(&mut self, p: &Preset) {
        let mut tokens: Vec<String> = (0..=255).map(|b| byte_to_char(b).to_string()).collect();
        tokens.push("Ġt".to_owned());
        let first_control = tokens.len();
        tokens.extend(CONTROL.map(str::to_owned));
        let mut kinds = vec![1i32; p.vocab_size as usize];
        kinds[first_control..tokens.len()].fill(3);
        // The rest prints as words, so that generated text is readable.
        tokens.extend((tokens.len()..p.vocab_size as usize).map(|i| format!("Ġw{i}")));
        let control = |i: usize| (first_control + i) as u32;
        let w = &mut self.writer;
        w.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
        w.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.token_type", kinds);
        w.set("tokenizer.ggml.merges", vec!["Ġ t".to_owned()]);
        w.set("tokenizer.ggml.bos_token_id", control(1)).set("tokenizer.ggml.eos_token_id", control(2));
        w.set("tokenizer.ggml.add_bos_token", false).set("tokenizer.chat_template", CHATML);
    }

    fn add_tensors(&mut self, p: &Preset, dtype: DType) {
        let (embd, vocab) = (p.embedding_length.into(), p.vocab_size.into());
        self.matrix("token_embd.weight", dtype, embd, vocab);
        if p.has("rope_freqs.weight") {
            self.vector("rope_freqs.weight", u64::from(p.head_length) / 2);
        }
        for layer in 0..p.block_count {
            self.add_layer(p, dtype, &format!("blk.{layer}"));
        }
        self.vector("output_norm.weight", embd);
        if p.has("output.weight") {
            self.matrix("output.weight", dtype, embd, vocab);
        }
        for (name, len) in [("output.bias", vocab), ("output.scale", 1)] {
            if p.has(name) {
                self.vector(name, len);
            }
        }
    }

    fn add_layer(&mut self, p: &Preset, dtype: DType, blk: &str) {
        let (embd, ff, head) = (u64::from(p.embedding_length), p.feed_forward_length.into(), u64::from(p.head_length));
        let (q, kv) = (head * u64::from(p.head_count), head * u64::from(p.head_count_kv));
        self.vector(&format!("{blk}.attn_norm.weight"), embd);
        for (name, inputs, outputs) in [("attn_q", embd, q), ("attn_k", embd, kv), ("attn_v", embd, kv)] {
            self.projection(p, dtype, blk, name, inputs, outputs);
        }
        self.projection(p, dtype, blk, "attn_output", q, embd);
        for norm in ["attn_q_norm.weight", "attn_k_norm.weight"].into_iter().filter(|n| p.has(n)) {
            self.vector(&format!("{blk}.{norm}"), head);
        }
        self.vector(&format!("{blk}.ffn_norm.weight"), embd);
        self.projection(p, dtype, blk, "ffn_gate", embd, ff);
        self.projection(p, dtype, blk, "ffn_up", embd, ff);
        self.projection(p, dtype, blk, "ffn_down", ff, embd);
    }

    /// A matrix of a layer, with its bias and scale if the preset has them.
    fn projection(&mut self, p: &Preset, dtype: DType, blk: &str, name: &str, inputs: u64, outputs: u64) {
        self.matrix(&format!("{blk}.{name}.weight"), dtype, inputs, outputs);
        for (end, len) in [("bias", outputs), ("scale", 1)] {
            if p.has(&format!("{name}.{end}")) {
                self.vector(&format!("{blk}.{name}.{end}"), len);
            }
        }
    }

    fn vector(&mut self, name: &str, len: u64) {
        self.writer.tensor(name, DType::F32, &[len]);
    }

    fn matrix(&mut self, name: &str, wanted: DType, row: u64, rows: u64) {
        let got = storable(wanted, row);
        if got != wanted {
            self.fallbacks.push(Fallback { tensor: name.to_owned(), row, wanted, got });
        }
        self.writer.tensor(name, got, &[row, rows]);
    }
}

/// The type itself if rows of this length are whole blocks, else llama-quantize's fallback.
fn storable(wanted: DType, row: u64) -> DType {
    if wanted.row_bytes(row).is_some() {
        return wanted;
    }
    let smaller = match wanted {
        DType::Q2K | DType::Q3K => DType::IQ4NL,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        _ => DType::F16,
    };
    if smaller.row_bytes(row).is_some() { smaller } else { DType::F16 }
}

fn check(p: &Preset, dtype: DType) -> Result<(), SynthError> {
    if !dtype.is_float() || dtype.ggml_id().is_none() {
        return Err(SynthError::Type { dtype });
    }
    if p.vocab_size < MIN_VOCAB {
        return Err(SynthError::Vocab { got: p.vocab_size });
    }
    if let Some(name) = p.optional.iter().find(|name| !OPTIONAL.contains(&name.as_str())) {
        return Err(SynthError::Optional { name: name.clone() });
    }
    let fields = [
        ("block_count", p.block_count),
        ("embedding_length", p.embedding_length),
        ("feed_forward_length", p.feed_forward_length),
        ("head_count", p.head_count),
        ("head_count_kv", p.head_count_kv),
        ("head_length", p.head_length),
        ("context_length", p.context_length),
    ];
    match fields.iter().find(|(_, value)| *value == 0) {
        Some(&(field, _)) => Err(SynthError::Zero { field }),
        None => Ok(()),
    }
}
