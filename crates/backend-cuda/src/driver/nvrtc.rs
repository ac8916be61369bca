//! Cubins for a GPU: built in, cached, or freshly compiled by NVRTC.
//!
//! The compiler produces machine code for exactly this GPU, not PTX, whose version an older driver may reject. Kernel
//! headers are passed by name; CUDA's own are in the include folder of the toolkit or the wheel.

use super::cache::Cache;
use crate::error::CudaError;
use crate::format::Format;
use crate::images::{KernelImages, Source};
use cudarc::nvrtc::{result, sys};
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

/// Minimum version of the compiler: it produces machine code, and supports the kernels' attributes and C++17.
const OLDEST: (i32, i32) = (12, 0);
/// Lines of the compiler's log shown in an error.
const LOG_LINES: usize = 6;

/// A cubin for each source, in the same order.
///
/// # Errors
/// [`CudaError::NoCompiler`], [`CudaError::OldCompiler`], [`CudaError::NoHeaders`], [`CudaError::Compile`].
pub(crate) fn cubins(images: &KernelImages, architecture: u32, cache: &Cache) -> Result<Vec<Vec<u8>>, CudaError> {
    let units: Vec<&Source> = images.units().collect();
    let built_in = units.iter().map(|u| images.cubin(u.name, architecture).map(<[u8]>::to_vec));
    if let Some(all) = built_in.collect::<Option<Vec<_>>>() {
        return Ok(all);
    }
    let hash = images.hash();
    let mut includes = None;
    let mut all = Vec::with_capacity(units.len());
    for unit in units {
        // The key excludes the compiler's version, so that binaries compiled elsewhere work without a compiler.
        let key = format!("{}-{hash}-sm{architecture}", unit.name.trim_end_matches(".cu"));
        if let Some(cubin) = cache.get(&key) {
            all.push(cubin);
            continue;
        }
        let folder = match &includes {
            Some(folder) => folder,
            None => includes.insert(compiler(architecture, cache)?),
        };
        let cubin = compile(images, unit, architecture, folder, &[])?;
        cache.put(&key, &cubin);
        all.push(cubin);
    }
    Ok(all)
}

/// Opens the compiler and returns the folder with the headers it needs.
fn compiler(architecture: u32, cache: &Cache) -> Result<PathBuf, CudaError> {
    // SAFETY: it opens the library, whose constructors are the compiler's.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoCompiler(architecture));
    }
    new_enough(&version()?)?;
    include_folder(cache)
}

/// The version of the compiler that this process can open; `None` if there is none.
pub(crate) fn found() -> Option<(i32, i32)> {
    // SAFETY: it opens the library, whose constructors are the compiler's.
    let present = unsafe { sys::is_culib_present() };
    present.then(version)?.ok()
}

/// The compiler's version, `(major, minor)`; 0.0, which is rejected as too old, if the library does not report it.
fn version() -> Result<(i32, i32), CudaError> {
    // SAFETY: as `is_culib_present`; the library stays open for good.
    let library = unsafe { sys::culib() };
    type Version = unsafe extern "C" fn(*mut i32, *mut i32) -> sys::nvrtcResult;
    // SAFETY: this is the function's type in every version of the library.
    let Ok(ask) = (unsafe { library.get::<Version>(b"nvrtcVersion\0") }) else { return Ok((0, 0)) };
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the call writes two numbers.
    unsafe { ask(&mut major, &mut minor) }
        .result()
        .map_err(|e| CudaError::Call { call: "nvrtcVersion", reason: format!("{e:?}") })?;
    Ok((major, minor))
}

/// Checks that the compiler has all functions called here. cudarc looks them up when they are called and assumes they
/// exist.
fn new_enough(&(major, minor): &(i32, i32)) -> Result<(), CudaError> {
    if (major, minor) >= OLDEST {
        return Ok(());
    }
    let shown = |(major, minor): (i32, i32)| format!("{major}.{minor}");
    Err(CudaError::OldCompiler { found: shown((major, minor)), needed: shown(OLDEST) })
}

/// The defines for `burst.cu`: the kernels of a model by number, and the forms of its weights.
fn defines(kernels: &[String]) -> Vec<String> {
    let tasks: String = kernels.iter().enumerate().map(|(i, k)| format!(" TASK({i}, {k})")).collect();
    let used = |f: &&Format| kernels.iter().any(|k| k.ends_with(&format!("_{}", f.name())));
    let forms = Format::ALL.iter().filter(used);
    let forms: String = forms.map(|f| format!(" KERNEL({}, Format{})", f.name(), f.name().to_uppercase())).collect();
    vec![format!("FOR_EACH_FORMAT(KERNEL)={forms}"), format!("BURST_TASKS(TASK)={tasks}")]
}

/// The cubin for bursts whose tasks run these kernels, numbered by position in the list.
///
/// # Errors
/// The errors of [`cubins`], and [`CudaError::NoKernel`].
pub(crate) fn burst_cubin(
    images: &KernelImages,
    architecture: u32,
    cache: &Cache,
    kernels: &[String],
) -> Result<Vec<u8>, CudaError> {
    let unit = images.burst().ok_or_else(|| CudaError::NoKernel("burst".to_owned()))?;
    let defines = defines(kernels);
    let model = blake3::hash(defines.join("\n").as_bytes()).to_hex();
    let key = format!("burst-{}-{}-sm{architecture}", images.hash(), &model[..16]);
    if let Some(cubin) = cache.get(&key) {
        return Ok(cubin);
    }
    let cubin = compile(images, unit, architecture, &compiler(architecture, cache)?, &defines)?;
    cache.put(&key, &cubin);
    Ok(cubin)
}

/// The folder with CUDA's own headers.
fn include_folder(cache: &Cache) -> Result<PathBuf, CudaError> {
    let has = |folder: &&PathBuf| ["cuda_fp16.h", "cuda_bf16.h"].iter().all(|h| folder.join(h).is_file());
    let places = &cache.includes;
    let list = || places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    places.iter().find(has).cloned().ok_or_else(|| CudaError::NoHeaders(list()))
}

/// A program of the compiler, destroyed when dropped.
struct NvrtcProgram(sys::nvrtcProgram);

impl Drop for NvrtcProgram {
    fn drop(&mut self) {
        // SAFETY: `create` made it.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn text(s: &str) -> CString {
    // Our sources contain no zero byte; text after one would be lost, and compiling would fail.
    CString::new(s.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

fn compile(
    images: &KernelImages,
    unit: &Source,
    architecture: u32,
    includes: &Path,
    defines: &[String],
) -> Result<Vec<u8>, CudaError> {
    let _range = super::nvtx::range(c"compile kernels");
    let fail = |log: String| CudaError::Compile { file: unit.name.to_owned(), arch: architecture, log };
    let error = |call: &'static str| move |e: result::NvrtcError| CudaError::Call { call, reason: format!("{e:?}") };
    let headers: Vec<(CString, CString)> = images.others(unit).map(|h| (text(h.text), text(h.name))).collect();
    let (texts, names): (Vec<*const c_char>, Vec<*const c_char>) =
        headers.iter().map(|(t, n)| (t.as_ptr(), n.as_ptr())).unzip();
    let (source, name) = (text(unit.text), text(unit.name));
    let mut program = std::ptr::null_mut();
    // SAFETY: all strings end with a zero and outlive the program; both lists have the given length.
    let made = unsafe {
        let count = headers.len() as i32;
        sys::nvrtcCreateProgram(&mut program, source.as_ptr(), name.as_ptr(), count, texts.as_ptr(), names.as_ptr())
    };
    made.result().map_err(error("nvrtcCreateProgram"))?;
    let program = NvrtcProgram(program);
    let mut options = vec![
        "--std=c++17".to_owned(),
        format!("--gpu-architecture=sm_{architecture}{}", if architecture == 90 { "a" } else { "" }),
        format!("--include-path={}", includes.display()),
    ];
    options.extend(defines.iter().map(|d| format!("-D{d}")));
    // SAFETY: the program was just made.
    if unsafe { result::compile_program(program.0, &options) }.is_err() {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        let log: Vec<u8> = log.into_iter().map(|c| c as u8).take_while(|&c| c != 0).collect();
        let log = String::from_utf8_lossy(&log).lines().take(LOG_LINES).collect::<Vec<_>>().join("; ");
        return Err(fail(log));
    }
    let mut bytes = 0;
    // SAFETY: the program is compiled; the call writes a size.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut bytes) }.result().map_err(error("nvrtcGetCUBINSize"))?;
    let mut cubin = vec![0u8; bytes];
    // SAFETY: the buffer has the size that the compiler asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }.result().map_err(error("nvrtcGetCUBIN"))?;
    Ok(cubin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_is_an_error_that_names_both_versions() {
        assert!(new_enough(&(12, 0)).is_ok() && new_enough(&(13, 2)).is_ok());
        for (found, shown) in [((11, 8), "11.8"), ((0, 0), "0.0")] {
            let error = new_enough(&found).expect_err("it is too old").to_string();
            assert!(error.contains(shown) && error.contains("12.0"), "{error}");
        }
    }
}
