#!/usr/bin/env bash
# What dkdm does on a GPU, on a machine that has one and no network: builds against the LibTorch of
# its Python (PyTorch 2.11 to 2.15), runs conformance tests and device-check, and times the authors'
# step beside it. One JSON object on stdout and in OUT. Under ten minutes on 16 cores.
#
#   tests/device/run.sh pack FOLDER    on a Debian with network: the packages that the build needs
#   tests/device/run.sh [DEVICE] [OUT] DEVICE: cuda:0; "fake" = the tests' own, in small, anywhere
#
#   DKDM_DEBS       folder that `pack` filled; unset: what is installed is used
#   LIBTORCH_ROOT   instead of python3's torch
#   DKDM_BUILD_DIR  build folder (build-device)
#   REFERENCE       folder guided-diffusion of the authors' code, and STEP their step as a program
#                   that takes --device, --b, --fp16 and prints "median N": timed beside ours
set -euo pipefail

source_dir=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../..
source_dir=$(realpath -- "$source_dir")
say() { printf 'run.sh: %s\n' "$*" >&2; }

# Beside what each names: what those need in turn, as far as it is no part of every system.
packages=(catch2 cmake cmake-data libarchive-dev libarchive13 libboost-dev libboost1.74-dev
  libboost-filesystem1.74-dev libboost-filesystem1.74.0 libboost-filesystem-dev
  libboost-program-options1.74-dev libboost-program-options1.74.0 libboost-program-options-dev
  libboost-system1.74-dev libboost-system1.74.0 libfmt-dev libfmt9 libgif-dev libgif7 libjpeg-dev
  libjpeg62-turbo libjpeg62-turbo-dev libpng-dev libpng16-16 libprotozero-dev libspdlog-dev
  libspdlog1.10 libsqlite3-0 libsqlite3-dev libsqlitecpp-dev libssl-dev libssl3 libtomlplusplus-dev
  libjsoncpp25 librhash0 libuv1 libwebp-dev libwebp7 libwebpdemux2 libwebpmux3 ninja-build
  nlohmann-json3-dev zlib1g zlib1g-dev)

pack() {
  mkdir -p "$1"
  (cd "$1" && apt-get download "${packages[@]}")
  say "$(du -sh "$1" | cut -f1) in $1: DKDM_DEBS=$1 where they are to be used"
}

# Sets the build's environment to what is in the packages of $1, unpacked into $2.
unpack() {
  local link target
  mkdir -p "$2"
  for deb in "$1"/*.deb; do dpkg -x "$deb" "$2"; done
  find "$2" -type l -lname '/*' | while read -r link; do
    target=$2$(readlink "$link")
    [[ -e $target ]] && ln -sfn "$target" "$link"
  done
  local lib=$2/usr/lib/x86_64-linux-gnu
  export PATH=$2/usr/bin:$PATH CMAKE_PREFIX_PATH=$2/usr CPATH=$2/usr/include
  export CMAKE_ROOT
  CMAKE_ROOT=$(ls -d "$2"/usr/share/cmake-* | head -n 1)
  export LIBRARY_PATH=$lib LD_LIBRARY_PATH=$lib:$2/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}
}

if [[ ${1:-} == pack ]]; then
  [[ $# -eq 2 ]] || { say "usage: run.sh pack FOLDER"; exit 2; }
  pack "$2"
  exit
fi

device=${1:-cuda:0} out=${2:-}
build=${DKDM_BUILD_DIR:-$source_dir/build-device}
start=$SECONDS
[[ -n ${DKDM_DEBS:-} ]] && unpack "$DKDM_DEBS" "$build/packages"

cuda=OFF libtorch=${LIBTORCH_ROOT:-}
[[ $device == cuda* ]] && cuda=ON
[[ -n $libtorch ]] || libtorch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__path__[0]))')
# The CUDA libraries that a wheel brings lie beside it.
for folder in "$libtorch"/nvidia/*/lib; do
  [[ -d $folder ]] && export LD_LIBRARY_PATH=$folder:${LD_LIBRARY_PATH:-}
done

say "building for $device with LibTorch in $libtorch"
targets=(device-check plugin-adm-unet plugin-dit plugin-dynamic conformance-diffusion
  conformance-networks conformance-samplers fake-device)
launcher=()
command -v ccache >/dev/null &&
  launcher=("-DCMAKE_CXX_COMPILER_LAUNCHER=env;CCACHE_SLOPPINESS=pch_defines,time_macros;ccache")
cmake -S "$source_dir" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DLIBTORCH_ROOT=$libtorch" \
  "-DDKDM_CUDA=$cuda" "${launcher[@]}" >&2
# For recorded passes, where this LibTorch and its headers are enough for it.
grep -q 'libdkdm_cuda\.so' "$build/build.ninja" && targets+=(dkdm_cuda)
ninja -C "$build" "${targets[@]}" >&2
built=$((SECONDS - start))

conformance=true
for name in diffusion networks samplers; do
  "$build/tests/conformance-$name" >&2 || conformance=false
done

size=() preload=
[[ $device == fake ]] && size=(small) preload=$build/tests/libfake-device.so
report=$build/device-check.json checked=true
LD_PRELOAD=$preload "$build/tests/device-check" "$device" "${size[@]}" >"$report" || checked=false

# Seconds of the authors' step, or nothing.
authors() {
  [[ -n ${REFERENCE:-} && -n ${STEP:-} ]] || return 0
  python3 "$STEP" --what kd --device "$device" --b 128 --n 30 "$@" |
    sed -n 's/.*median \([0-9.]*\).*/\1/p'
}
fp32=$(authors) fp16=$(authors --fp16)

python3 - "$report" "$built" "$conformance" "$fp32" "$fp16" "$((SECONDS - start))" <<'PY' | tee ${out:+"$out"}
import json, sys
report, built, conformance, fp32, fp16, seconds = sys.argv[1:]
try:
    device = json.load(open(report))
except ValueError:
    device = {"ok": False, "error": "device-check ended without a report"}
result = {"build_s": int(built), "all_s": int(seconds), "conformance_ok": conformance == "true",
          "authors_s_per_step": {"fp32": float(fp32) if fp32 else None,
                                 "fp16": float(fp16) if fp16 else None},
          "device": device}
result["ok"] = result["conformance_ok"] and device["ok"]
print(json.dumps(result, indent=2))
PY
[[ $conformance == true && $checked == true ]]
