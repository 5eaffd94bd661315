"""Loads a network that dkdm exported into the reference's class, strictly, and compares outputs.

DKDM_EXPORT=<folder> build/tests/conformance-export
REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 verify_export.py <folder>
LATENT=<checkout of qianlong0502/DKDM>/latent-diffusion python3 verify_export.py <folder>/latent
The folder has network.json (arguments of UNetModel), exported.pt (its weights after some steps of
training) and probe.pt (x, t and what dkdm's network made of them). Needs torch and numpy, for LATENT einops.
"""
import json
import os
import sys
import types

import torch as th

if "LATENT" in os.environ:
    sys.path.insert(0, os.environ["LATENT"])
    sys.modules["PIL"] = types.ModuleType("PIL")  # for drawing texts, which nothing here does
    sys.modules["PIL"].__dict__.update(Image=None, ImageDraw=None, ImageFont=None)
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
else:
    sys.path.insert(0, os.environ["REFERENCE"])
    from guided_diffusion.unet import UNetModel

folder = sys.argv[1]
with open(os.path.join(folder, "network.json")) as file:
    net = UNetModel(**json.load(file))
weights = th.load(os.path.join(folder, "exported.pt"), map_location="cpu", weights_only=True)
net.load_state_dict(weights, strict=True)
assert list(weights) == list(net.state_dict()), "the order of the tensors differs"
probe = th.load(os.path.join(folder, "probe.pt"), map_location="cpu", weights_only=True)
with th.no_grad():
    out = net.eval()(probe["x"], probe["t"])
error = ((out - probe["out"]).norm() / out.norm()).item()
print(f"{len(weights)} tensors loaded strictly; relative difference of the outputs {error:.2e}")
sys.exit(0 if error < 1e-5 else 1)
