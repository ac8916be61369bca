//! Model files that differ from a synthetic one in a key or a tensor, for tests of odd files.

use aio_ir::DType;
use aio_model::gguf::write::GgufWriter;
use aio_model::gguf::{Gguf, GgufError, MetaValue};
use aio_model::synth::{Preset, Synth};
use aio_model::{Model, ModelError};

/// A tensor: name, type, sizes (innermost first), bytes.
#[derive(Clone, Debug)]
pub struct FileTensor {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// Sizes, innermost first.
    pub dims: Vec<u64>,
    /// The data.
    pub bytes: Vec<u8>,
}

/// A GGUF file that can be modified.
#[derive(Clone, Debug)]
pub struct File {
    /// Metadata, in order.
    pub keys: Vec<(String, MetaValue)>,
    /// Tensors, in order.
    pub tensors: Vec<FileTensor>,
}

impl File {
    /// A tiny model in the shape of a preset.
    ///
    /// # Panics
    /// If the preset does not exist.
    pub fn tiny(preset: &str, dtype: DType) -> File {
        File::of(&Preset::find(preset).expect("the preset exists").tiny(), dtype)
    }

    /// A synthetic model.
    ///
    /// # Panics
    /// If the model cannot be made.
    pub fn of(preset: &Preset, dtype: DType) -> File {
        let bytes = Synth::new(preset, dtype, 7).and_then(|s| s.to_bytes()).expect("the preset can be made");
        let gguf = Gguf::from_bytes(bytes).expect("the file is valid");
        let tensor = |t: &aio_model::gguf::TensorInfo| FileTensor {
            name: t.name.clone(),
            dtype: t.dtype().expect("synthetic models have known types"),
            dims: t.dims.clone(),
            bytes: gguf.tensor_data(&t.name).expect("the data is there").to_vec(),
        };
        File {
            keys: gguf.metadata().map(|(key, value)| (key.to_owned(), value.to_meta())).collect(),
            tensors: gguf.tensors().iter().map(tensor).collect(),
        }
    }

    /// Sets a key.
    pub fn set(mut self, key: &str, value: impl Into<MetaValue>) -> File {
        self.keys.retain(|(k, _)| k != key);
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    /// Removes a key.
    pub fn without_key(mut self, key: &str) -> File {
        self.keys.retain(|(k, _)| k != key);
        self
    }

    /// Adds an f32 vector, replacing a tensor of the same name.
    pub fn vector(self, name: &str, values: &[f32]) -> File {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(FileTensor { name: name.to_owned(), dtype: DType::F32, dims: vec![values.len() as u64], bytes })
    }

    /// Adds a tensor, replacing one of the same name.
    pub fn tensor(mut self, tensor: FileTensor) -> File {
        self.tensors.retain(|t| t.name != tensor.name);
        self.tensors.push(tensor);
        self
    }

    /// Removes a tensor.
    pub fn without(mut self, name: &str) -> File {
        self.tensors.retain(|t| t.name != name);
        self
    }

    /// The tensor with this name.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn get(&self, name: &str) -> &FileTensor {
        self.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The values of an f32 tensor.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.get(name);
        assert_eq!(tensor.dtype, DType::F32, "{name}");
        tensor.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Serialises the file.
    ///
    /// # Panics
    /// If a tensor's bytes do not fit its shape.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.keys {
            writer.set(key, value.clone());
        }
        for t in &self.tensors {
            writer.tensor(&t.name, t.dtype, &t.dims);
        }
        let data = |name: &str| &self.get(name).bytes;
        writer.to_bytes(&mut |spec, out| out.write_all(data(&spec.name))).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn gguf(&self) -> Result<Gguf, GgufError> {
        Gguf::from_bytes(self.bytes())
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn model(&self) -> Result<Model, ModelError> {
        Model::from_gguf(self.gguf()?)
    }
}
