#!/usr/bin/env bash
# MKL's number of threads is that of all of PyTorch's work on the CPU: MKL_NUM_THREADS=1 leaves one thread whatever
# OMP_NUM_THREADS says, and OMP_NUM_THREADS above the cores is cut to them unless MKL_DYNAMIC=FALSE.
# Exits 0 while that is so, 1 when it has changed. Downloads PyTorch with its dependencies (3 GB).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
  --target "$folder/packages" torch==2.15.0 numpy==2.4.6
cd "$folder"
export PYTHONPATH=$folder/packages
changed=0
threads() { env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u MKL_DYNAMIC "$@" \
  python3 -c 'import torch; print(torch.get_num_threads())'; }
cores=$(threads)
expect() {
  local wanted=$1 got
  shift
  got=$(threads "$@")
  echo "$* -> $got threads"
  [[ $got == "$wanted" ]] || { echo "expected $wanted"; changed=1; }
}
echo "no variable -> $cores threads"
expect 1 MKL_NUM_THREADS=1 OMP_NUM_THREADS="$cores"
expect "$cores" MKL_NUM_THREADS="$cores" OMP_NUM_THREADS=1
expect "$cores" OMP_NUM_THREADS=$((cores + 2))
expect $((cores + 2)) OMP_NUM_THREADS=$((cores + 2)) MKL_DYNAMIC=FALSE
exit $changed
