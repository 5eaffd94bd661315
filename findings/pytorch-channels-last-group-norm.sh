#!/usr/bin/env bash
# PyTorch's group normalisation of channels-last float32 images on the CPU takes the variance as
# E[x^2] - E[x]^2: where a group's mean is 10 deviations the result is wrong by 1e-5 and more of its scale, at
# 1000 by a tenth and more. The same images in contiguous memory are right to the rounding of the input. Memory
# format is documented not to change values; channels-last is what is advised for convolutions on the CPU.
# Exits 0 while that is so, 1 when it has changed. Downloads PyTorch with its dependencies (3 GB).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
  --target "$folder/packages" torch==2.15.0 numpy==2.4.6
cd "$folder"
export PYTHONPATH=$folder/packages
python3 - <<'PYTHON'
import sys

import torch
from torch.nn.functional import group_norm

print("torch", torch.__version__, "on", torch.backends.cpu.get_cpu_capability())
print(f"{'mean / deviation':>16}{'contiguous':>14}{'channels-last':>16}")
torch.manual_seed(0)
found = {}
for mean in (0, 10, 100, 1000):
    x = torch.randn(2, 32, 16, 16) + mean
    exact = group_norm(x.double(), 8)
    found[mean] = [((group_norm(x.contiguous(memory_format=f), 8) - exact).abs().max()
                    / exact.abs().max()).item()
                   for f in (torch.contiguous_format, torch.channels_last)]
    print(f"{mean:16}{found[mean][0]:14.2g}{found[mean][1]:16.2g}")
as_described = (all(error < 1e-4 for error, _ in found.values()) and found[10][1] > 5e-6
                and found[100][1] > 5e-4 and found[1000][1] > 0.05)
if not as_described:
    print("group normalisation does otherwise now")
sys.exit(not as_described)
PYTHON
