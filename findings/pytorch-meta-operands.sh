#!/usr/bin/env bash
# A CPU tensor multiplied by one of PyTorch's meta device, which has no content, is a CPU tensor of memory that
# nobody has written: mm, bmm, conv2d and a Linear without bias return it without an error, gradient function and
# all. So a network of which one layer's weights were never loaded (made on "meta", as large ones are) answers a
# batch with numbers. In place, x.add_(meta) leaves x as it was. Other operators (+, cat, where, layer_norm, a Linear
# with bias) refuse the same pair of devices, as all do for cpu and cuda. Hence the check "device" of
# `dkdm plugins check`, which looks at the arguments of every call instead of trusting a forward on meta.
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
from torch import nn

print("torch", torch.__version__)
here = torch.ones(64, 64)
meta = torch.ones(64, 64, device="meta")
images = torch.ones(1, 3, 8, 8)


def outcome(call):
    """The device of the result, or "refused"."""
    try:
        return call().device.type
    except RuntimeError as error:
        assert "device" in str(error), error
        return "refused"


expected = {
    "mm(cpu, meta)": (lambda: torch.mm(here, meta), "cpu"),
    "bmm(meta, cpu)": (lambda: torch.bmm(meta[None], here[None]), "cpu"),
    "conv2d with weights on meta, of a CPU batch":
        (lambda: nn.Conv2d(3, 4, 3, device="meta")(images), "cpu"),
    "Linear without bias on meta, of a CPU batch":
        (lambda: nn.Linear(64, 64, bias=False, device="meta")(here), "cpu"),
    "cpu.add_(meta)": (lambda: here.clone().add_(meta), "cpu"),
    "mm(meta, cpu)": (lambda: torch.mm(meta, here), "meta"),
    "Linear with bias on meta, of a CPU batch":
        (lambda: nn.Linear(64, 64, device="meta")(here), "refused"),
    "cpu + meta": (lambda: here + meta, "refused"),
    "cat": (lambda: torch.cat([here, meta]), "refused"),
    "where": (lambda: torch.where(here > 0, meta, meta), "refused"),
}
changed = False
for name, (call, device) in expected.items():
    found = outcome(call)
    print(f"{name:48}{found:10}{'' if found == device else 'expected ' + device}")
    changed |= found != device
unchanged = torch.equal(here.clone().add_(meta), here)
print("x.add_(meta) left x as it was:", unchanged)
product = torch.mm(here, meta)
print("entries of mm(cpu, meta) that are 64, as of ones they would be:", int((product == 64).sum()))
sys.exit(changed or not unchanged)
PYTHON
