//! Models in Hugging Face's format: a folder with `config.json`, `tokenizer.json` and safetensors files.
//!
//! Such a folder is read like the GGUF file it could have been converted to: its configuration becomes metadata, its
//! tensors get GGUF's names, and the files stay mapped, so code outside this module sees no difference. Vectors (norms,
//! biases) are widened to f32, as in GGUF files. One thing is not converted: GGUF orders the rows of Llama's query and
//! key matrices differently, so the metadata states that rotated pairs are half a head apart. Architectures: llama,
//! qwen2, qwen3; weights: F32, F16, BF16. Requires the feature `safetensors`; called by [`crate::Model::open`].

mod config;
mod error;
mod files;
mod names;
mod tokens;

pub use error::SafetensorsError;

use crate::gguf::write::GgufWriter;
use crate::gguf::{GgmlType, Gguf, TensorInfo};
use aio_ir::DType;
use aio_mapped::Map;
use config::Config;
use files::read_json;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The index of a model in several files.
const INDEX: &str = "model.safetensors.index.json";
/// The file of a model in one file.
const SINGLE: &str = "model.safetensors";

/// A vector widened to f32, in the order of the files.
struct Vector {
    name: String,
    values: Vec<f32>,
}

/// A mapped file and its matrices.
struct File {
    map: Map,
    matrices: Vec<TensorInfo>,
}

/// Opens the model of a folder, or of a safetensors or index file in it.
///
/// # Errors
/// [`SafetensorsError`] names the file at fault.
pub fn open(path: &Path) -> Result<Gguf, SafetensorsError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let config: Config = read_json(&folder.join("config.json"))?;
    config.check(&folder.join("config.json"))?;
    let mut vectors = Vec::new();
    let mut files = Vec::new();
    for (path, expected) in weight_files(path, folder)? {
        files.push(open_file(&path, &expected, &config, &mut vectors)?);
    }
    check_embedding(folder, &files, &config)?;
    let mut metadata = GgufWriter::new();
    config.describe(&mut metadata);
    tokens::describe(folder, &config, &mut metadata)?;
    vectors.extend(config.rope_factors().map(|values| Vector { name: "rope_freqs.weight".to_owned(), values }));
    let header = header(metadata, &vectors)?;
    Ok(Gguf::of_files(header, files.into_iter().map(|f| (f.map, f.matrices)).collect())?)
}

/// The relevant part of an index.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files, with the tensors each must contain.
type Files = BTreeMap<PathBuf, Vec<String>>;

fn weight_files(path: &Path, folder: &Path) -> Result<Files, SafetensorsError> {
    let index = folder.join(INDEX);
    let one = if path.is_dir() { folder.join(SINGLE) } else { path.to_path_buf() };
    if index.is_file() && (!one.is_file() || one == index) {
        return split_files(&index, folder);
    }
    if !one.is_file() {
        return Err(SafetensorsError::NoWeights { path: folder.to_path_buf() });
    }
    // A part of a split model stands for the whole.
    if index.is_file() {
        let files = split_files(&index, folder)?;
        if files.contains_key(&one) {
            return Ok(files);
        }
    }
    Ok(Files::from([(one, Vec::new())]))
}

fn split_files(index: &Path, folder: &Path) -> Result<Files, SafetensorsError> {
    let mut files = Files::new();
    for (tensor, file) in read_json::<Index>(index)?.weight_map {
        if Path::new(&file).file_name() != Some(file.as_ref()) {
            return Err(SafetensorsError::FileName { path: index.to_path_buf(), file });
        }
        files.entry(folder.join(file)).or_default().push(tensor);
    }
    if files.is_empty() {
        return Err(SafetensorsError::NoWeights { path: folder.to_path_buf() });
    }
    Ok(files)
}

/// Maps a file. Matrices stay in the map, vectors are widened.
fn open_file(
    path: &Path,
    expected: &[String],
    config: &Config,
    vectors: &mut Vec<Vector>,
) -> Result<File, SafetensorsError> {
    let map = Map::open(path)?;
    let header =
        |e: safetensors::SafeTensorError| SafetensorsError::Header { path: path.to_path_buf(), message: e.to_string() };
    let (header_bytes, table) = SafeTensors::read_metadata(&map).map_err(header)?;
    if let Some(name) = expected.iter().find(|n| table.info(n).is_none()) {
        return Err(SafetensorsError::MissingTensor { path: path.to_path_buf(), name: name.clone() });
    }
    // The header follows its length, and the data follows the header.
    let data_start = 8 + header_bytes;
    let mut matrices = Vec::new();
    for name in table.offset_keys() {
        let Some(info) = table.info(&name) else { continue };
        let Some(own_name) = names::of(&name, config.tie_word_embeddings) else { continue };
        let own_name =
            own_name.ok_or_else(|| SafetensorsError::UnknownTensor { path: path.to_path_buf(), name: name.clone() })?;
        let kind = || SafetensorsError::TensorKind {
            path: path.to_path_buf(),
            name: name.clone(),
            kind: format!("{:?}{:?}", info.dtype, info.shape),
        };
        let dtype = dtype(info.dtype).ok_or_else(kind)?;
        let (start, end) = info.data_offsets;
        match info.shape.as_slice() {
            [_] => {
                let values = widen(dtype, &map[data_start + start..data_start + end]);
                vectors.push(Vector { name: own_name, values });
            }
            &[rows, cols] if rows > 0 && cols > 0 => matrices.push(TensorInfo {
                name: own_name,
                ty: GgmlType::Known(dtype),
                dims: vec![cols as u64, rows as u64],
                offset: start as u64,
                file_offset: (data_start + start) as u64,
                bytes: Some((end - start) as u64),
                part: 0,
            }),
            _ => return Err(kind()),
        }
    }
    Ok(File { map, matrices })
}

fn dtype(of: Dtype) -> Option<DType> {
    match of {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

fn widen(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let pairs = bytes.chunks_exact(2).map(|c| [c[0], c[1]]);
    match dtype {
        DType::F16 => pairs.map(|c| f16::from_le_bytes(c).to_f32()).collect(),
        DType::BF16 => pairs.map(|c| bf16::from_le_bytes(c).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
    }
}

/// Checks the number of tokens against the weights before it sizes anything.
fn check_embedding(folder: &Path, files: &[File], config: &Config) -> Result<(), SafetensorsError> {
    let mut matrices = files.iter().flat_map(|f| &f.matrices);
    let found = matrices.find(|t| t.name == "token_embd.weight").map(TensorInfo::shape).unwrap_or_default();
    let expected = [u64::from(config.vocab_size), u64::from(config.hidden_size)];
    let path = folder.to_path_buf();
    if found != expected {
        return Err(SafetensorsError::Embedding { path, found, expected });
    }
    // Without this check, a model that lacks it would be treated as tied.
    if !config.tie_word_embeddings && !files.iter().flat_map(|f| &f.matrices).any(|t| t.name == "output.weight") {
        return Err(SafetensorsError::MissingTensor { path, name: "lm_head.weight".to_owned() });
    }
    Ok(())
}

/// A GGUF file with the metadata and the widened vectors.
fn header(mut metadata: GgufWriter, vectors: &[Vector]) -> Result<Vec<u8>, SafetensorsError> {
    for v in vectors {
        metadata.tensor(&v.name, DType::F32, &[v.values.len() as u64]);
    }
    let mut left = vectors.iter();
    let bytes = metadata.to_bytes(&mut |_, out| {
        let values = left.next().map(|v| v.values.as_slice()).unwrap_or_default();
        values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    });
    Ok(bytes?)
}
