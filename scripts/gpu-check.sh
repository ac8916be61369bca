#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine without Rust: conformance, golden tokens, speculation, independence of
# rows, memory and race checkers, the benchmark table. Runs from the folder that `scripts/gpu-pack.sh` makes and writes logs,
# tables and summary.md to a folder. Nothing else should use the GPU meanwhile.
#
# usage: gpu-check.sh [--quick] [--large] RESULTS
#   --quick  one model in one type, few repetitions, no checkers
#   --large  pangu-7b too: 15 GB of disk and of GPU memory at a time
# Exit status: 0 fine, 1 something failed, 2 there is no GPU that aio can use.
set -uo pipefail

quick=no large=no out=
for arg in "$@"; do
    case $arg in
        --quick) quick=yes ;;
        --large) large=yes ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu-check: unknown flag $arg" >&2; exit 2 ;;
        *) out=$arg ;;
    esac
done
[ -n "$out" ] || { echo "usage: gpu-check.sh [--quick] [--large] RESULTS" >&2; exit 2; }
mkdir -p "$out/logs" "$out/tables" || exit 2
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
aio=$here/bin/aio
work=$(mktemp -d "${TMPDIR:-/tmp}/aio-gpu.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT

# Machine code of the kernels and the default model come with the folder; it may be read-only, so the cache is a copy.
export XDG_CACHE_HOME=$work/cache AIO_WORKSPACE=$here AIO_GPU=1
cp -r "$here/cache" "$work/cache" && chmod -R u+w "$work/cache"
# NVRTC, for what was not compiled ahead: the system's if there is one, else the one that came along.
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/nvidia/cuda_nvrtc/lib

summary=$out/summary.md
failed=0
say() { echo "$*" | tee -a "$summary"; }
: >"$summary"

# Runs a step with a limit of minutes: step NAME MINUTES COMMAND...; its log, and a line of the summary.
step() {
    local name=$1 minutes=$2 log start status
    shift 2
    log=$out/logs/$name.log
    start=$SECONDS
    timeout "$((minutes * 60))" "$@" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        say "| $name | ok | $((SECONDS - start)) s | |"
    else
        failed=1
        say "| $name | FAILED ($status) | $((SECONDS - start)) s | $(grep -v '^ *$' "$log" | tail -1 | tr '|' ' ' | cut -c1-120) |"
    fi
    return $status
}

skip() { say "| $1 | SKIP | | $2 |"; }

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
cat "$out/logs/device.log" | tee -a "$summary"
command -v nvidia-smi >/dev/null && nvidia-smi >"$out/logs/nvidia-smi.log" 2>&1

say
say "## Checks"
say
say "| step | result | time | |"
say "| --- | --- | ---: | --- |"
step open 10 "$aio" device calibrate --device cuda --file "$out/profile.toml"
step conformance 20 "$here/bin/conformance" --nocapture --test-threads=1 gpu::
step rows-drafts-golden 30 "$here/bin/cuda_model" --nocapture --test-threads=1
step memory 10 "$here/bin/cuda_memory" --nocapture --test-threads=1
step bursts 30 "$here/bin/cuda_burst" --nocapture --test-threads=1

# Texts with drafts and without must be the same; prompts that repeat themselves make drafts. Run through `step`, in a shell of its own.
# shellcheck disable=SC2329
same_text() {
    local prompt plain spec
    for prompt in "One two three. One two three. One two three." "def f(x): return x" "The capital of France is"; do
        plain=$("$aio" run --device cuda --ids -n 96 --temp 0 --spec off -p "$prompt") || return 1
        for spec in auto 4 16; do
            echo "$prompt, $spec"
            [ "$plain" = "$("$aio" run --device cuda --ids -n 96 --temp 0 --spec "$spec" -p "$prompt")" ] || return 1
        done
        [ "$plain" = "$(AIO_CUDA_SERIAL=1 "$aio" run --device cuda --ids -n 96 --temp 0 --spec off -p "$prompt")" ] || return 1
        [ "$plain" = "$("$aio" run --device cuda --ids -n 96 --temp 0 --spec 4 --dispatch token -p "$prompt")" ] || return 1
        # Bursts, which is what `run` does unless told otherwise, against one step a submission.
        for spec in off auto; do
            [ "$plain" = "$("$aio" run --device cuda --ids -n 96 --temp 0 --spec $spec --burst 0 -p "$prompt")" ] || return 1
        done
    done
}
export -f same_text
export aio
step same-text 10 bash -c same_text

sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
if [ -z "$sanitizer" ]; then
    skip memcheck "there is no compute-sanitizer"
    skip racecheck "there is no compute-sanitizer"
elif [ $quick = yes ]; then
    skip memcheck "--quick"
    skip racecheck "--quick"
else
    for type in bf16 q8_0 q4_1 q4_k; do
        "$aio" synth --preset smollm2-135m --layers 2 --type $type -o "$work/small.gguf" >"$out/logs/synth-small.log" 2>&1
        small=("$aio" run --device cuda -m "$work/small.gguf" --ids -n 4 --temp 0 --spec 4 -p "One two three. One two three.")
        step memcheck-$type 20 "$sanitizer" --tool memcheck --error-exitcode 3 "${small[@]}"
        # Races between kernels are not what it looks for, and it wants one at a time.
        step racecheck-$type 30 env AIO_CUDA_SERIAL=1 "$sanitizer" --tool racecheck --error-exitcode 3 "${small[@]}"
    done
fi

reps=5
[ $quick = yes ] && reps=2
# A table of one model: bench NAME MODEL [FLAGS...].
bench() {
    local name=$1 model=$2
    shift 2
    step "bench-$name" 20 "$aio" bench --device cuda -m "$model" -r $reps -o json --output-err md "$@" || return 1
    grep '^\[' "$out/logs/bench-$name.log" >"$out/tables/$name.json"
    grep -v '^\[' "$out/logs/bench-$name.log" | grep -v '^note' >"$out/tables/$name.md"
}

tests=(-p 512 -n 128 --rows "1,2,3,4,5,8,9,16,17")
default=$work/cache/aio/models/SmolLM2-135M-Instruct.Q4_1.gguf
bench smollm2-135m "$default" "${tests[@]}"

# Tokens a second of a long text: host and device in turn step by step, and in bursts, where the plain loop on the device is
# what drafts on the device are measured against. The best of three.
bursts() {
    local name=$1 model=$2 spec burst rate one
    {
        echo "| drafts | tokens a burst | tok/s, best of 3 | host time a token, us |"
        echo "| --- | ---: | ---: | ---: |"
        for spec in off auto; do
            for burst in 0 1 64; do
                rate=$(for _ in 1 2 3; do
                    "$aio" run --device cuda -m "$model" -n 512 --temp 0 --ignore-eos --spec $spec --burst $burst -o json \
                        -p "One two three. One two three. One two three." 2>>"$out/logs/$name.log" |
                        sed -n 's/.*"decode_tok_s":\([0-9.]*\).*/\1/p'
                done | sort -n | tail -1)
                [ $burst = 1 ] && one=$rate
                echo "| $spec | $burst | ${rate:-FAILED} | $(host_time $spec $burst "$one" "$rate") |"
            done
        done
    } >"$out/tables/$name.md"
    if grep -q FAILED "$out/tables/$name.md"; then failed=1; fi
}

# What the host adds to each of 64 tokens, from the plain loops: a burst of one token has all of its burst's, so 63/64 of it
# is the difference of their times. The start and the end of the kernel count as the host's, so it is at most this.
host_time() {
    local spec=$1 burst=$2 one=$3 many=$4
    if [ "$spec" = off ] && [ "$burst" = 64 ] && [ -n "$one" ] && [ -n "$many" ]; then
        awk -v one="$one" -v many="$many" 'BEGIN { printf "%.2f", (1 / one - 1 / many) / 63 * 1e6 }'
    fi
}

# Hugging Face transformers in turn with aio, on a model of the same shapes.
python=$(for p in python3 python; do "$p" -c "import torch, transformers" 2>/dev/null && echo "$p" && break; done)
peer() {
    local name=transformers-$1 model=$2
    if [ -z "$python" ]; then
        skip "$name" "there is no Python with torch and transformers"
        return
    fi
    step "$name" 20 "$python" "$here/bin/transformers" "$model" --aio "$aio" --device cuda -n 256 -r $reps || return 1
    grep -E '^\||rounds in turn' "$out/logs/$name.log" >"$out/tables/$name.md"
}

# A synthetic model, made on the spot and gone afterwards.
synthetic() {
    local preset=$1 type=$2 model=$work/$1-$2.gguf
    step "synth-$preset-$type" 30 "$aio" synth --preset "$preset" --type "$type" -o "$model" || return 1
    bench "$preset-$type" "$model" "${tests[@]}"
    [ "$type" = bf16 ] && [ $quick = no ] && bench "$preset-$type-depth" "$model" -p 0 -n 64 -d 4096 --rows 1,4,8,16
    bursts "$preset-$type-bursts" "$model"
    [ "$preset-$type" = llama-1b-bf16 ] && peer "$preset-$type" "$model"
    rm -f "$model"
}

bursts smollm2-135m-bursts "$default"
if [ $quick = yes ]; then
    synthetic llama-1b bf16
else
    for preset in llama-1b pangu-1b; do
        for type in bf16 q8_0 q4_1; do synthetic $preset $type; done
    done
fi
if [ $large = yes ]; then
    for type in bf16 q8_0 q4_1; do synthetic pangu-7b $type; done
else
    skip pangu-7b "only with --large"
fi

say
say "## Speed"
for table in "$out"/tables/*.md; do
    [ -e "$table" ] || continue
    say
    say "### $(basename "$table" .md)"
    say
    grep -E '^\||GB/s|rounds' "$table" | tee -a "$summary"
done
say
if [ $failed = 0 ]; then say "All checks passed."; else say "Something failed; see the logs."; fi
exit $failed
