//! `--device cuda` without a GPU: one line with the reason and exit status 2, for every subcommand.

use crate::{Place, check_failure, text};
use aio::ir::DType;

/// Whether the machine has a GPU; then there is no reason to report.
fn has_gpu(place: &Place) -> bool {
    let output = place.run(&["device", "list", "--device", "cuda"]);
    let found = output.status.code() == Some(0);
    if found {
        aio_filetest::needs::skip("cuda reasons", "no-gpu", &text(&output.stdout));
    }
    found
}

#[test]
fn without_a_gpu_there_is_a_reason_and_status_2() {
    let place = Place::new();
    if has_gpu(&place) {
        return;
    }
    let listed = place.good(&["device", "list"]);
    let row = listed.lines().find(|l| l.starts_with("| cuda |")).unwrap();
    let reasons = ["there is no CUDA driver", "finds no GPU", "is needed", "the kernels need"];
    assert!(reasons.iter().any(|r| row.contains(r)), "{row}");
    assert!(!row.contains("calibrate"), "{row}");
    let model = place.model("llama-1b", DType::Q8_0);
    let commands: [&[&str]; 4] = [
        &["device", "list", "--device", "cuda"],
        &["device", "calibrate", "--device", "cuda"],
        &["run", "-m", &model, "-p", "x", "--device", "cuda"],
        &["bench", "-m", &model, "--device", "cuda"],
    ];
    for command in commands {
        let output = place.run(command);
        let stderr = check_failure(&output, 2, "device cuda is not available: ");
        assert!(reasons.iter().any(|r| stderr.contains(r)), "{command:?}: {stderr}");
    }
}

#[test]
fn the_oracle_is_listed_and_not_measured() {
    let place = Place::new();
    let listed = place.good(&["device", "list", "--device", "interp"]);
    assert!(listed.contains("| interp |") && !listed.contains("cpu"), "{listed}");
    let listed = place.good(&["device", "list", "--device", "cpu"]);
    assert!(listed.contains("| cpu-portable |") && !listed.contains("interp"), "{listed}");
    place.bad(&["device", "calibrate", "--device", "interp"], 2, "no profile");
    place.bad(&["bench", "-m", "x", "--device", "interp"], 2, "cannot be measured");
}

#[test]
fn a_device_that_is_none_and_an_option_that_it_lacks_are_refused_by_name() {
    let place = Place::new();
    let shown = place.bad(&["device", "list", "--device", "npu"], 2, "invalid value 'npu' for '--device");
    assert!(shown.contains("cpu, ") && shown.contains("interp"), "{shown}");
    let model = place.model("llama-1b", DType::Q8_0);
    let run = ["run", "-m", &model, "-p", "x", "--device", "interp"];
    place.bad(&[&run[..], &["--threads", "2"]].concat(), 2, "--threads does not apply to --device interp");
    place.write("g", "aio 1\ngraph \"g\"\n%x = fill {shape = [2], value = 1.0, dtype = f32}\noutput \"x\" = %x\n");
    place.bad(&["graph", "run", "g", "--isa", "avx2"], 2, "--isa does not apply to --device interp");
    place.bad(
        &["device", "calibrate", "--device", "interp", "--isa", "portable"],
        2,
        "--isa does not apply to --device interp",
    );
}

/// Needs NVRTC but no GPU. Without NVRTC, it reports the reason and leaves no half-filled folder.
#[test]
fn kernels_are_compiled_ahead_or_the_reason_is_said() {
    let place = Place::new();
    assert!(place.good(&["device", "kernels", "--help"]).contains("Examples:"));
    let output = place.run(&["device", "kernels", "--arch", "90", "--out", "kernels"]);
    if output.status.code() == Some(0) {
        assert!(text(&output.stdout).starts_with("sm_90: "), "{}", text(&output.stdout));
        assert!(std::fs::read_dir(place.path("kernels")).unwrap().count() > 10);
        return;
    }
    let stderr = check_failure(&output, 2, "");
    assert!(stderr.contains("libnvrtc") || stderr.contains("cuda_fp16.h"), "{stderr}");
    assert!(!place.path("kernels").exists());
}
