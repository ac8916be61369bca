//! Where the functions of AscendCL come from: libraries opened at run time, or a table of addresses in this process.

use super::api::Api;
use crate::error::AscendError;
use libloading::Library;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The runtime's library under its old and its new name, then those with tensors and operators.
const NAMES: [&str; 9] = [
    "libascendcl.so",
    "libacl_rt.so",
    "libnnopbase.so",
    "libopapi.so",
    "libopapi_math.so",
    "libopapi_nn.so",
    "libopapi_transformer.so",
    "libopapi_cv.so",
    "libopapi_legacy.so",
];

/// An AscendCL implementation.
#[derive(Clone)]
pub struct AclLibrary {
    api: Arc<Api>,
    /// Where it comes from, for messages.
    origin: String,
}

impl std::fmt::Debug for AclLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AclLibrary").field(&self.origin).finish()
    }
}

impl AclLibrary {
    /// Opens a library file, all of AscendCL's libraries in a folder, or, without a path, those that the system finds.
    /// CANN spreads the functions over several libraries, so each is looked for in all that open.
    ///
    /// # Errors
    /// [`AscendError::Library`] if none opens, [`AscendError::Symbol`] if a function is in none.
    pub fn open(path: Option<&Path>) -> Result<AclLibrary, AscendError> {
        let path = path.map(here);
        let path = path.as_deref();
        let files: Vec<PathBuf> = match path {
            Some(folder) if folder.is_dir() => NAMES.iter().map(|name| folder.join(name)).collect(),
            // The other libraries of CANN are beside the one that is named.
            Some(file) => {
                let beside = file.parent().map(|folder| NAMES.iter().skip(2).map(move |name| folder.join(name)));
                std::iter::once(file.to_owned()).chain(beside.into_iter().flatten().filter(|f| f.exists())).collect()
            }
            None => NAMES.iter().map(PathBuf::from).collect(),
        };
        let (mut open, mut refused) = (Vec::new(), None);
        for file in &files {
            // The loader waits for ever at a pipe.
            if file.exists() && !file.is_file() {
                refused.get_or_insert_with(|| "it is not a regular file".to_owned());
                continue;
            }
            // SAFETY: the user names AscendCL's libraries, whose initialisers may run on any thread.
            match unsafe { Library::new(file) } {
                Ok(library) => open.push(library),
                Err(e) => {
                    let cause = std::error::Error::source(&e).map(ToString::to_string);
                    refused.get_or_insert_with(|| cause.unwrap_or_else(|| e.to_string()));
                }
            }
        }
        if open.is_empty() {
            let path = path.map_or_else(|| PathBuf::from(NAMES[0]), Path::to_owned);
            return Err(AscendError::Library { path, reason: refused.unwrap_or_default() });
        }
        let find = |name: &'static str| open.iter().find_map(|library| address(library, name));
        let api = Api::of(&find);
        // CANN's threads go on, so its libraries stay until the process ends.
        open.into_iter().for_each(std::mem::forget);
        let api = api?;
        let origin = path.map_or_else(|| NAMES[0].to_owned(), |p| p.display().to_string());
        Ok(AclLibrary { api: Arc::new(api), origin })
    }

    /// The simulated Ascend in this process.
    ///
    /// # Errors
    /// [`AscendError::Symbol`] if it lacks a function, which is a bug.
    #[cfg(feature = "simulator")]
    pub fn simulated() -> Result<AclLibrary, AscendError> {
        AclLibrary::simulated_without(&[])
    }

    /// The simulated Ascend without some of its functions, as an older CANN would be.
    ///
    /// # Errors
    /// [`AscendError::Symbol`] if the back end cannot do without one of them.
    #[cfg(feature = "simulator")]
    pub fn simulated_without(functions: &[&str]) -> Result<AclLibrary, AscendError> {
        let table = aio_ascend_sim::symbols::all();
        let api = Api::of(&|name| table.get(name).copied().filter(|_| !functions.contains(&name)))?;
        Ok(AclLibrary { api: Arc::new(api), origin: "the simulator".to_owned() })
    }

    /// Where it comes from: a path, a library's name, or the simulator.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether it is the simulated Ascend, whose times are modelled.
    pub fn is_simulated(&self) -> bool {
        self.api.aioSimHostTime.is_some()
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }
}

/// A path of one name in the current folder as such: the loader would look for the name elsewhere.
fn here(path: &Path) -> PathBuf {
    if path.components().count() == 1 && path.exists() { Path::new(".").join(path) } else { path.to_owned() }
}

fn address(library: &Library, name: &str) -> Option<usize> {
    // SAFETY: only the address is taken; `Api` states the type that it is called with.
    let symbol = unsafe { library.get::<*const ()>(name.as_bytes()) }.ok()?;
    // SAFETY: the raw form of a symbol is its address.
    Some(unsafe { symbol.into_raw() }.as_raw_ptr() as usize)
}
