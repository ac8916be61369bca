//! CUDA through the facade: NVRTC compiles the embedded kernels once; feature `gpu-tests` adds tests on a real device.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio::cuda::{CudaDevice, CudaError, CudaOptions};
use aio_filetest::{cuda, needs};

#[test]
fn the_embedded_kernels_compile_without_a_gpu_and_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = CudaOptions { cache: Some(folder.path().to_owned()), ..cuda::options() };
    let bytes = match CudaDevice::compile(&aio::devices::kernel_images(), 90, &options) {
        Err(e @ (CudaError::NoCompiler(_) | CudaError::NoHeaders(_))) => {
            return needs::skip("cuda compile", "nvrtc", &e.to_string());
        }
        other => other.unwrap(),
    };
    assert!(bytes > 100_000, "{bytes} bytes");
    let kept = std::fs::read_dir(folder.path()).unwrap().count();
    let units = aio::devices::kernel_images()
        .sources
        .iter()
        .filter(|s| s.name.ends_with(".cu") && s.name != "burst.cu")
        .count();
    assert_eq!(kept, units);
    // A second start needs no headers, since nothing is compiled.
    let again = CudaOptions { includes: Vec::new(), ..options };
    assert_eq!(CudaDevice::compile(&aio::devices::kernel_images(), 90, &again).unwrap(), bytes);
}

#[test]
fn bursts_compile_for_a_models_kernels_and_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = CudaOptions { cache: Some(folder.path().to_owned()), ..cuda::options() };
    let names = ["rope_table", "embed_q4_0", "norm_qkv_q4_0", "attend", "linear_f16", "op_map", "prepare_bf16"];
    let kernels = names.map(str::to_owned);
    let compile =
        |options: &CudaOptions| CudaDevice::compile_burst(&aio::devices::kernel_images(), 90, &kernels, options);
    let bytes = match compile(&options) {
        Err(e @ (CudaError::NoCompiler(_) | CudaError::NoHeaders(_))) => {
            return needs::skip("cuda burst", "nvrtc", &e.to_string());
        }
        other => other.unwrap(),
    };
    assert!(bytes > 10_000, "{bytes} bytes");
    assert_eq!(compile(&CudaOptions { includes: Vec::new(), ..options }).unwrap(), bytes);
}

/// The same list as under emulation, on this machine's GPU.
#[cfg(feature = "gpu-tests")]
mod gpu {
    use super::*;
    use aio::conformance::{Outcome, cases, reference, run_case};
    use aio::engine::{EngineOptions, Flow, Request, Sampling, Speculation};
    use aio::ir::DType;
    use aio::ir::sampling::SampleParams;
    use aio_filetest::tiny;
    use std::sync::Arc;

    /// The first GPU, or `None` after a SKIP.
    fn gpu(test: &str) -> Option<CudaDevice> {
        match CudaDevice::open(&aio::devices::kernel_images(), &cuda::options()) {
            Ok(device) => Some(device),
            Err(e) => {
                needs::skip(test, "gpu", &e.to_string());
                None
            }
        }
    }

    /// Prints each case before it runs, since it may hang. Stops after a case that leaves the GPU refusing everything.
    #[test]
    fn every_case_agrees_with_the_oracle() {
        let Some(device) = gpu("cuda conformance") else { return };
        let mut failures = Vec::new();
        let cases = cases();
        for case in &cases {
            println!("case {}", case.name);
            let Outcome::Fail(reason) = run_case(case, &device, &reference(case).unwrap()) else { continue };
            println!("failed: {reason}");
            failures.push(format!("{}: {reason}", case.name));
            if let Err(e) = device.synchronize() {
                failures.push(format!("{} lost the GPU ({e}); no case after it was run", case.name));
                break;
            }
        }
        println!("{} cases on {}", cases.len(), device.gpu());
        assert!(failures.is_empty(), "{} failures on {}:\n{}", failures.len(), device.gpu(), failures.join("\n"));
    }

    /// Many steps in one launch give the same tokens as plain steps.
    #[test]
    fn bursts_give_the_tokens_of_steps() {
        let Some(device) = gpu("cuda bursts") else { return };
        let options = EngineOptions { context: Some(512), ..EngineOptions::default() };
        let mut engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(device), &options);
        let few = SampleParams { temperature: 0.8, top_k: 2, ..SampleParams::GREEDY };
        for params in [SampleParams::GREEDY, few] {
            let sampling = Sampling { params, seed: 11, ..Sampling::greedy() };
            let prompt = (0..40).map(|i| (i % 7 * 31 + 3) as u32).collect();
            let request = Request { max_tokens: Some(300), ignore_eog: true, ..Request::new(prompt, sampling) };
            let mut ids = |burst, speculation| {
                engine.set_burst(burst);
                let request = Request { speculation, ..request.clone() };
                engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
            };
            let want = ids(0, Speculation::Off);
            assert_eq!(ids(64, Speculation::Off), want);
            assert_eq!(ids(64, Speculation::Auto), want);
            assert_eq!(engine.burst_refusal(), None);
        }
    }
}
