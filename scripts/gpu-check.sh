#!/usr/bin/env bash
# Runs the checks that need a GPU, on a machine without Rust: conformance, golden tokens, speculation, row independence,
# the benchmark table, bursts, memory and race checkers. Runs from the folder made by `scripts/gpu-pack.sh` and writes
# logs, tables, summary.md and results.tar.gz, which contains all of them, to RESULTS. Nothing else should use the GPU.
#
# usage: gpu-check.sh [--quick] [--large] [--only STEP[,STEP]...] [--limit SECONDS] RESULTS
#   --quick  one model in one type, few repetitions, no checkers
#   --large  also pangu-7b; needs 30 GB of disk and 15 GB of GPU memory
#   --only   steps with these prefixes: open conformance rows-drafts-golden memory same-text bench-MODEL transformers-MODEL
#            burst-tests burst-text bursts-MODEL memcheck racecheck; MODEL is smollm2-135m or PRESET-TYPE
#   --limit  maximum seconds per step
# Exit status: 0 success, 1 a check failed, 2 there is no GPU that aio can use, 143 ended by a signal.
set -uo pipefail

usage="usage: gpu-check.sh [--quick] [--large] [--only STEP[,STEP]...] [--limit SECONDS] RESULTS"
quick=no large=no only="" limit="" out=""
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=yes ;;
        --large) large=yes ;;
        --only | --limit)
            [ $# -gt 1 ] || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
            if [ "$1" = --only ]; then only=$2; else limit=$2; fi
            shift
            ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu-check: unknown flag $1" >&2; exit 2 ;;
        *) out=$1 ;;
    esac
    shift
done
[ -n "$out" ] || { echo "$usage" >&2; exit 2; }
case $limit in *[!0-9]*) echo "gpu-check: --limit $limit is no number of seconds" >&2; exit 2 ;; esac
mkdir -p "$out/logs" "$out/tables" || exit 2
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
aio=$here/bin/aio
work=$(mktemp -d "${TMPDIR:-/tmp}/aio-gpu.XXXXXX") || exit 2
summary=$out/summary.md
rm -f "$out/results.tar.gz"
: >"$summary"
failed=0 begun=no child=""
say() { echo "$*" | tee -a "$summary"; }

# However the script ends, package the results so far.
finish() {
    local status=$?
    trap - EXIT TERM INT HUP
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null
        wait "$child"
        say "| ... | ENDED | | by a signal |"
    fi
    [ $begun = yes ] && speeds
    say
    case $status in
        0) say "All checks passed." ;;
        1) say "Something failed; see the logs." ;;
        *) say "Ended early, with status $status." ;;
    esac
    tar -C "$out" -czf "$work/results.tar.gz" summary.md logs tables && mv "$work/results.tar.gz" "$out/"
    rm -rf "$work"
    exit "$status"
}
speeds() {
    say
    say "## Speed"
    for table in "$out"/tables/*.md; do
        [ -e "$table" ] || continue
        say
        say "### $(basename "$table" .md)"
        say
        grep -E '^\||GB/s|rounds' "$table" | tee -a "$summary"
    done
}
trap finish EXIT
trap 'exit 143' TERM INT HUP

# The folder contains the kernels' machine code and the default model. It may be read-only, so the cache is a copy.
export XDG_CACHE_HOME=$work/cache AIO_WORKSPACE=$here AIO_GPU=1
cp -r "$here/cache" "$work/cache" && chmod -R u+w "$work/cache" || exit 2
# NVRTC, for kernels that were not compiled ahead of time, and its headers, which must have the same version: the packed
# ones, otherwise the system's.
cuda=$here/nvidia/cuda_runtime nvrtc=$here/nvidia/cuda_nvrtc/lib
[ -d "$cuda" ] || { cuda=${CUDA_HOME:-/usr/local/cuda} && nvrtc=$cuda/lib64; }
export CUDA_HOME=$cuda LD_LIBRARY_PATH=$nvrtc${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
default=$work/cache/aio/models/SmolLM2-135M-Instruct.Q4_1.gguf
# A test that finds no GPU, or no model although one was packed, proves nothing and must fail.
AIO_REQUIRE=gpu
[ -f "$default" ] && AIO_REQUIRE=gpu,model
export AIO_REQUIRE aio work

# Whether any of these steps is selected.
wanted() {
    local step prefix
    [ -n "$only" ] || return 0
    for step in "$@"; do
        for prefix in ${only//,/ }; do
            case $step in "$prefix"*) return 0 ;; esac
        done
    done
    return 1
}

# Runs a command with a time limit: run NAME MINUTES COMMAND... Writes its log and a line of the summary.
run() {
    local name=$1 seconds=${limit:-$(($2 * 60))} log start status
    shift 2
    log=$out/logs/$name.log
    start=$SECONDS
    # In the background, so that signals are handled meanwhile; `timeout` forwards them to the command's processes.
    timeout -k 10 "$seconds" "$@" >"$log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    child=""
    if [ $status = 0 ]; then
        say "| $name | ok | $((SECONDS - start)) s | |"
    else
        failed=1
        say "| $name | FAILED ($status) | $((SECONDS - start)) s | $(grep -v '^ *$' "$log" | tail -1 | tr '|' ' ' | cut -c1-120) |"
    fi
    return $status
}
# The same for a step that may not be selected.
step() {
    wanted "$1" || return 0
    run "$@"
}
skip() { wanted "$1" && say "| $1 | SKIP | | $2 |"; }

say "# aio on a GPU"
say
say "commit $(cat "$here/commit" 2>/dev/null), $(date -u +%Y-%m-%d), $(uname -sr), $(nproc) processors"
if ! "$aio" --version >"$out/logs/version.log" 2>&1; then
    say "the binary does not start: $(tail -1 "$out/logs/version.log") (it needs $(cat "$here/glibc" 2>/dev/null))"
    exit 2
fi
if ! "$aio" device list --device cuda >"$out/logs/device.log" 2>&1; then
    say "there is no GPU that aio can use: $(tail -1 "$out/logs/device.log")"
    exit 2
fi
say
tee -a "$summary" <"$out/logs/device.log"
command -v nvidia-smi >/dev/null && nvidia-smi >"$out/logs/nvidia-smi.log" 2>&1

begun=yes
say
say "## Checks"
say
say "| step | result | time | |"
say "| --- | --- | ---: | --- |"
step open 10 "$aio" device calibrate --device cuda --file "$out/logs/profile.toml"
step conformance 20 "$here/bin/conformance" --nocapture --test-threads=1 gpu::every_case
step rows-drafts-golden 30 "$here/bin/cuda_model" --nocapture --test-threads=1
step memory 10 "$here/bin/cuda_memory" --nocapture --test-threads=1

# The functions below run through `step`, in a separate shell.
# shellcheck disable=SC2329
# Runs a model; fails if bursts were requested but refused.
run_model() {
    local status
    "$aio" run --device cuda "$@" 2>"$work/notes"
    status=$?
    cat "$work/notes" >&2
    [ $status = 0 ] && ! grep -q '^no bursts' "$work/notes"
}
# Texts must be the same with and without drafts and bursts. The prompts are repetitive, so that there are drafts.
# shellcheck disable=SC2329
same_text() {
    local what=$1 prompt plain spec
    ids() { run_model --ids -n 96 --temp 0 -p "$prompt" "$@"; }
    same() {
        local got
        echo "$prompt: $*"
        got=$(ids "$@") && [ "$plain" = "$got" ]
    }
    for prompt in "One two three. One two three. One two three." "def f(x): return x" "The capital of France is"; do
        plain=$(ids --spec off --burst 0) || return 1
        if [ "$what" = bursts ]; then
            for spec in off auto 4; do same --spec $spec --burst 64 || return 1; done
        else
            for spec in auto 4 16; do same --spec $spec --burst 0 || return 1; done
            AIO_CUDA_SERIAL=1 same --spec off --burst 0 || return 1
            same --spec 4 --dispatch token --burst 0 || return 1
        fi
    done
}
# Tokens per second of a long text, the best of three: step by step, with host and device alternating, and in bursts.
# The plain loop on the device is the baseline for drafts on the device.
# shellcheck disable=SC2329
bursts() {
    local model=$1 spec burst rate one="" bad=0
    echo "| drafts | tokens a burst | tok/s, best of 3 | host time a token, us |"
    echo "| --- | ---: | ---: | ---: |"
    for spec in off auto; do
        for burst in 0 1 64; do
            rate=$(for _ in 1 2 3; do
                run_model -m "$model" -n 512 --temp 0 --ignore-eos --spec $spec --burst $burst -o json \
                    -p "One two three. One two three. One two three." || exit 1
            done | sed -n 's/.*"decode_tok_s":\([0-9.]*\).*/\1/p' | sort -n | tail -1) || { rate=FAILED; bad=1; }
            [ $burst = 1 ] && one=$rate
            echo "| $spec | $burst | $rate | $(host_time $spec $burst "$one" "$rate") |"
        done
    done
    return $bad
}
# Host time per token, from the plain loops. A burst of one token has the host time of a whole burst of 64, so 63/64 of
# it is the difference of their times per token. This is an upper bound: starting and ending the kernel count as host
# time.
# shellcheck disable=SC2329
host_time() {
    local spec=$1 burst=$2 one=$3 many=$4
    if [ "$spec" = off ] && [ "$burst" = 64 ] && [ "$one" != FAILED ] && [ "$many" != FAILED ]; then
        awk -v one="$one" -v many="$many" 'BEGIN { printf "%.2f", (1 / one - 1 / many) / 63 * 1e6 }'
    fi
}
export -f run_model same_text bursts host_time

if [ -f "$default" ]; then
    step same-text 10 bash -c "same_text steps"
else
    skip same-text "the folder has no model"
fi

reps=5
[ $quick = yes ] && reps=2
# Writes the table of one model: bench NAME MODEL [FLAGS...].
bench() {
    local name=$1 model=$2
    shift 2
    wanted "bench-$name" || return 0
    run "bench-$name" 20 "$aio" bench --device cuda -m "$model" -r $reps -o json --output-err md "$@" || return 1
    grep '^\[' "$out/logs/bench-$name.log" >"$out/tables/$name.json"
    grep -v '^\[' "$out/logs/bench-$name.log" | grep -v '^note' >"$out/tables/$name.md"
}
tests=(-p 512 -n 128 --rows "1,2,3,4,5,8,9,16,17")

# Alternates Hugging Face transformers and aio, on a model with the same shapes.
python=$(for p in python3 python; do "$p" -c "import torch, transformers" 2>/dev/null && echo "$p" && break; done)
peer() {
    local name=transformers-$1 model=$2
    wanted "$name" || return 0
    if [ -z "$python" ]; then
        skip "$name" "there is no Python with torch and transformers"
        return
    fi
    run "$name" 20 "$python" "$here/bin/transformers" "$model" --aio "$aio" --device cuda -n 256 -r $reps || return 1
    grep -E '^\||rounds in turn' "$out/logs/$name.log" >"$out/tables/$name.md"
}

# Makes a synthetic model if a step needs it and it is missing: synthetic PRESET-TYPE STEP... Sets `model` to its path.
synthetic() {
    local name=$1
    model=$work/$name.gguf
    shift
    wanted "$@" || return 1
    [ -f "$model" ] || run "synth-$name" 30 "$aio" synth --preset "${name%-*}" --type "${name##*-}" -o "$model"
}
# Writes the tables of a synthetic model.
speed_of() {
    local name=$1 model
    synthetic "$name" "bench-$name" "bench-$name-depth" "bench-$name-carveout" "transformers-$name" || return 1
    bench "$name" "$model" "${tests[@]}"
    if [ "${name##*-}" = bf16 ] && [ $quick = no ]; then
        bench "$name-depth" "$model" -p 0 -n 64 -d 4096 --rows 1,4,8,16
    fi
    if [ "$name" = llama-1b-bf16 ]; then
        peer "$name" "$model"
        # The same share of shared memory for all kernels, so that none waits for a multiprocessor to become empty.
        AIO_CUDA_CARVEOUT=100 bench "$name-carveout" "$model" -p 0 -n 128 --rows 1,4,8,16
    fi
}
# The same model in bursts. A grid that deadlocks could block the GPU for good, so all other figures come first.
bursts_of() {
    local name=$1 model=${2:-} step=bursts-$1
    wanted "$step" || return 0
    [ -n "$model" ] || synthetic "$name" "$step" || return 1
    run "$step" 5 bash -o pipefail -c 'bursts "$1"' bursts "$model"
    grep '^|' "$out/logs/$step.log" >"$out/tables/$name-bursts.md"
}

if [ -f "$default" ]; then bench smollm2-135m "$default" "${tests[@]}"; else skip bench-smollm2-135m "the folder has no model"; fi
models=(llama-1b-bf16)
[ $quick = no ] && models=({llama,pangu}-1b-{bf16,q8_0,q4_1})
for name in "${models[@]}"; do speed_of "$name"; done

step burst-tests 10 "$here/bin/cuda_burst" --nocapture --test-threads=1
step burst-tests-steps 5 "$here/bin/conformance" --nocapture --test-threads=1 gpu::bursts
if [ -f "$default" ]; then
    step burst-text 5 bash -c "same_text bursts"
    bursts_of smollm2-135m "$default"
else
    skip burst-text "the folder has no model"
    skip bursts-smollm2-135m "the folder has no model"
fi
for name in "${models[@]}"; do
    bursts_of "$name"
    rm -f "$work/$name.gguf"
done

# Memory and race checkers. All but one run without bursts, whose blocks wait for each other. racecheck does not look
# for races between kernels, and needs them to run one at a time.
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
reason=""
[ $quick = yes ] && reason="--quick"
[ -z "$sanitizer" ] && reason="there is no compute-sanitizer"
if [ -n "$reason" ]; then
    skip memcheck "$reason"
    skip racecheck "$reason"
else
    for type in bf16 q8_0 q4_1 q4_k; do
        wanted memcheck-$type racecheck-$type memcheck-bursts-$type || continue
        run synth-small-$type 5 "$aio" synth --preset smollm2-135m --layers 2 --type $type -o "$work/small.gguf" || continue
        small=("$aio" run --device cuda -m "$work/small.gguf" --ids -n 4 --temp 0 --spec 4 -p "One two three. One two three.")
        step memcheck-$type 20 "$sanitizer" --tool memcheck --error-exitcode 3 "${small[@]}" --burst 0
        step racecheck-$type 30 env AIO_CUDA_SERIAL=1 "$sanitizer" --tool racecheck --error-exitcode 3 "${small[@]}" --burst 0
        [ $type = q4_1 ] &&
            step memcheck-bursts-$type 10 "$sanitizer" --tool memcheck --error-exitcode 3 "${small[@]}" --burst 4
    done
fi

if [ $large = yes ]; then
    for name in pangu-7b-{bf16,q8_0,q4_1}; do speed_of "$name"; done
    for name in pangu-7b-{bf16,q8_0,q4_1}; do
        bursts_of "$name"
        rm -f "$work/$name.gguf"
    done
else
    skip bench-pangu-7b "only with --large"
fi
exit $failed
