#!/usr/bin/env bash
# code_path.sh PATH INTEL_LIBRARY PROBE PROGRAM…: runs programs on another of LibTorch's code paths than this
# processor's own: "none" (as one without AVX), "avx", "avx2", "avx512" (as Intel's with these). ATen, oneDNN
# and MKL are told each in its own way; MKL takes a processor for Intel's with INTEL_LIBRARY preloaded.
# 77 where this processor lacks the instructions. PROBE prints the bits of float32 exp: paths on which MKL
# rounds otherwise must show it, or this tests nothing.
set -euo pipefail
path=$1 intel=$2 probe=$3
shift 3

has() { [[ $path == none ]] || grep -qw "$1" /proc/cpuinfo; }
case $path in
  none) needs=; set_to="ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE" ;;
  avx) needs=avx; set_to="ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX MKL_ENABLE_INSTRUCTIONS=SSE4_2" ;;
  avx2) needs=avx2; set_to="ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2" ;;
  avx512) needs=avx512bw; set_to="ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512" ;;
  *) echo "code path $path: expected none, avx, avx2 or avx512" >&2; exit 2 ;;
esac
has "$needs" || { echo "this processor has no $needs"; exit 77; }
[[ $path == none ]] || set_to+=" LD_PRELOAD=$intel"
read -ra environment <<<"$set_to"
printf '%s\n' "${environment[@]}"

if [[ $path == avx2 || $path == avx512 ]]; then
  lowest=$(MKL_CBWR=COMPATIBLE "$probe") here=$(env "${environment[@]}" "$probe")
  [[ $lowest != "$here" ]] || { echo "exp has the same bits as on the lowest path: MKL was not told" >&2; exit 1; }
fi
failed=0
for program in "$@"; do
  env "${environment[@]}" "$program" || { echo "$program failed on $path" >&2; failed=1; }
done
exit $failed
