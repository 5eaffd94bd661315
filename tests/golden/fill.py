"""What all make_*.py scripts share: the deterministic fill u(i, j) of u_fill.hpp, the time's sinusoid, the
reference in float64 with its own rounding over code paths, and how golden files store tensors in short.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch as th

F32 = th.float32  # where scripts make float32 mean float64


def fill(i, shape, scale=1.0):
    """f64 scale * u(i, j) of u_fill.hpp at row-major element j."""
    j = np.arange(int(np.prod(shape)), dtype=np.int64)
    u = 2 * (((7919 * j + 104729 * i + 12345) % 1000003) / 1000003) - 1
    return scale * u.reshape(shape)


def filled(net):
    """`net` with every parameter from u(i, j): parameter_fill of u_fill.hpp; pos_embed stays."""
    for i, (name, p) in enumerate(net.named_parameters()):
        if name == "pos_embed":
            continue
        shape = tuple(p.shape)
        if len(shape) > 1:
            value = fill(i, shape, np.sqrt(3 * shape[0] / p.numel()))
        else:
            value = fill(i, shape, 0.1) + (1.0 if name.endswith("weight") else 0.0)
        p.data.copy_(th.from_numpy(value))
    return net.eval()


def sinusoid(t, count, span):
    """cos and sin, f32 [N, count], of t [N] and the frequencies exp(-ln(10000) k / span), which the
    references take from a float32 exp whose last bit differs between processors: 6e-5 of a phase
    at t = 999. Here and in dkdm::nn::sinusoid frequency, cosine and sine are rounded from float64."""
    frequencies = np.exp(-np.log(10000.0) * np.arange(count) / span).astype(np.float32)
    phase = (t.to(F32)[:, None] * th.from_numpy(frequencies)).double()
    return phase.cos().to(F32), phase.sin().to(F32)


# Code paths of LibTorch: what a processor without AVX, one with AVX2, and Intel's with AVX2 and AVX-512
# run. INTEL is where MKL takes the paths that it keeps for Intel's processors.
LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
INTEL = {"LD_PRELOAD": "intel"}
PATHS = [{}, LOWEST, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
         INTEL | {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, INTEL | {"MKL_ENABLE_INSTRUCTIONS": "AVX512"}]


def exact(name, compute):
    """compute(), the reference in float64: once for all code paths."""
    folder = os.environ.get("GOLDEN_EXACT")
    file = folder and os.path.join(folder, name.replace("/", "_") + ".pt")
    if file and os.path.exists(file):
        return th.load(file, weights_only=False)
    value = compute()
    if file:
        th.save(value, file)
    return value


def over_paths(make):
    """(golden, roundings) = make(): the golden of here, and each rounding's largest over PATHS. A rounding
    is how far the reference in float32 is from itself in float64, by name."""
    if "GOLDEN_ROUNDINGS" in os.environ:
        with open(os.environ["GOLDEN_ROUNDINGS"], "w") as file:
            json.dump(make()[1], file)
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GOLDEN_EXACT"] = folder
        golden, _ = make()
        intel = os.path.join(folder, "intel.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures/intel_mkl.cpp")
        subprocess.run(["c++", "-O2", "-shared", "-fPIC", "-o", intel, source], check=True)
        worst = {}
        for path in PATHS:
            path = {k: intel if k == "LD_PRELOAD" else v for k, v in path.items()}
            found = os.path.join(folder, "roundings.json")
            subprocess.run([sys.executable, os.path.abspath(sys.argv[0])], check=True,
                           env=os.environ | path | {"GOLDEN_ROUNDINGS": found})
            with open(found) as file:
                for name, value in json.load(file).items():
                    worst[name] = max(worst.get(name, 0), float(f"{value:.3g}"))
        return golden, worst


def rounding(f32, f64):
    """Relative, over a whole tensor."""
    return ((f32.double() - f64).norm() / f64.norm()).item()


def numbers(tensor, stride):
    """Every `stride`-th element in row-major order, and the norm of all."""
    flat = tensor.detach().double().flatten()
    return {"stride": stride, "norm": float(f"{flat.norm().item():.8g}"),
            "values": [float(f"{v:.8g}") for v in flat[::stride].tolist()]}
