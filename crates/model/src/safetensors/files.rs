//! Reads the small files of a folder into memory.

use super::error::SafetensorsError;
use serde::de::DeserializeOwned;
use std::path::Path;

pub(super) fn read_text(path: &Path) -> Result<String, SafetensorsError> {
    std::fs::read_to_string(path).map_err(|source| SafetensorsError::Read { path: path.to_path_buf(), source })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SafetensorsError> {
    let fail = |e: serde_json::Error| SafetensorsError::Json { path: path.to_path_buf(), message: e.to_string() };
    serde_json::from_str(&read_text(path)?).map_err(fail)
}
