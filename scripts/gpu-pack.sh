#!/usr/bin/env bash
# Makes the folder from which `gpu-check.sh` runs on a machine with a GPU and without Rust: binaries, tests, kernels as
# machine code, the kernel compiler with its headers, the default model. Needs Rust and Python here, but no GPU. The
# archive is split into parts of less than 56 MiB; unpack with `cat aio-gpu.tar.gz.* | tar xz`.
#
# usage: scripts/gpu-pack.sh [--arch LIST] [--no-nvrtc] [--no-model] FOLDER
#   --arch  compute capabilities without the point, comma-separated [default: 80,89,90,100,120]
set -euo pipefail

usage="usage: scripts/gpu-pack.sh [--arch LIST] [--no-nvrtc] [--no-model] FOLDER"
nvrtc=yes model=yes arch=80,89,90,100,120 out=
while [ $# -gt 0 ]; do
    case $1 in
        --arch)
            [ $# -gt 1 ] || { echo "gpu-pack: --arch needs a value" >&2; exit 2; }
            arch=$2
            shift
            ;;
        --no-nvrtc) nvrtc=no ;;
        --no-model) model=no ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu-pack: unknown flag $1" >&2; exit 2 ;;
        *) out=$1 ;;
    esac
    shift
done
[ -n "$out" ] || { echo "$usage" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
pack=$out/aio-gpu
rm -rf "$pack" "$out"/aio-gpu.tar.gz.*
mkdir -p "$pack"/{bin,kernels,tests,cache/aio/cuda,cache/aio/models}

# The path of a test's executable, as printed by Cargo.
executable() {
    cargo test --release --no-run "$@" 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
}

echo "building"
cargo build --release --bin aio
strip -o "$pack/bin/aio" target/release/aio
strip -o "$pack/bin/conformance" "$(executable -p aio --features gpu-tests --test cuda)"
for test in cuda_model cuda_memory cuda_burst; do
    strip -o "$pack/bin/$test" "$(executable -p aio-filetest --test $test)"
done

echo "compiling kernels"
wheels=$(scripts/cuda-check --wheels)
export LD_LIBRARY_PATH=$wheels/cuda_nvrtc/lib
"$pack/bin/aio" device kernels --arch "$arch" --out "$pack/cache/aio/cuda"
# A burst takes half a minute to compile, so only those that `gpu-check.sh` runs; they are known for an H100.
case ,$arch, in *,90,*)
    AIO_BURST_LISTS=$pack/bursts cargo test --release -p aio-filetest --test cuda_burst_lists
    "$pack/bin/aio" device kernels --arch 90 --bursts "$pack/bursts" --out "$pack/cache/aio/cuda"
    ;;
esac

cp -r kernels/cuda "$pack/kernels/"
cp -r graphs "$pack/"
mkdir -p "$pack/tests/data"
cp tests/data/golden-smollm2.json "$pack/tests/data/"
cp scripts/gpu-check.sh "$pack/"
cp benches/peers/transformers "$pack/bin/"
git rev-parse HEAD >"$pack/commit"
# The newest glibc symbol version that a binary requires; it does not start on an older system.
grep -aoh 'GLIBC_2\.[0-9]*' "$pack"/bin/* | sort -uV | tail -1 >"$pack/glibc"

if [ $nvrtc = yes ]; then
    # The layout of the wheels, in which aio finds the headers.
    mkdir -p "$pack"/nvidia/{cuda_nvrtc/lib,cuda_runtime}
    cp "$wheels"/cuda_nvrtc/lib/libnvrtc.so.* "$wheels"/cuda_nvrtc/lib/libnvrtc-builtins.so.* "$pack/nvidia/cuda_nvrtc/lib/"
    # aio tries the bare name first, and it must not resolve to the system's library of another version.
    for lib in "$pack"/nvidia/cuda_nvrtc/lib/libnvrtc.so.*; do ln -sf "$(basename "$lib")" "${lib%.so.*}.so"; done
    cp -r "$wheels/cuda_runtime/include" "$pack/nvidia/cuda_runtime/"
fi
if [ $model = yes ]; then
    target/release/aio pull
    cp "${XDG_CACHE_HOME:-$HOME/.cache}"/aio/models/SmolLM2-135M-Instruct.Q4_1.gguf "$pack/cache/aio/models/"
fi

echo "packing"
tar -C "$out" -c aio-gpu | gzip -6 | split -b 56M -d - "$out/aio-gpu.tar.gz."
du -sh "$pack"/* | sed "s|$pack/||"
echo "needs $(cat "$pack/glibc") or newer"
for part in "$out"/aio-gpu.tar.gz.*; do
    echo "$(basename "$part"): $(($(stat -c %s "$part") >> 20)) MiB"
done
echo "unpack: cat aio-gpu.tar.gz.* | tar xz; then aio-gpu/gpu-check.sh RESULTS"
