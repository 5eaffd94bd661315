"""Writes latent.json: outputs of the latent half of the authors' code, a small VQ autoencoder and a small
UNet, and the names and sizes of the full ones.

LATENT=<checkout of qianlong0502/DKDM>/latent-diffusion TAMING=<checkout of CompVis/taming-transformers> \\
    python3 make_latent.py
Needs torch, numpy and einops; pytorch_lightning, omegaconf and PIL are met by the few lines below. Checkouts without .git
take their commits from COMMIT and TAMING_COMMIT. Weights and inputs are v(i, j) of u_fill.hpp. Outputs are
taken in float64, but for the sinusoid of the time (fill.py); "rounding" is how far float32 is from that,
over the code paths of fill.py.
"""
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import types
from unittest.mock import patch

import numpy as np
import torch as th

from fill import exact, numbers, over_paths, rounding, sinusoid

LATENT, TAMING = os.environ["LATENT"], os.environ["TAMING"]
sys.path[:0] = [LATENT, TAMING]
th.set_num_threads(1)  # the order of sums, hence the last bit, depends on it


def provide(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


provide("pytorch_lightning", LightningModule=th.nn.Module)
provide("PIL", Image=None, ImageDraw=None, ImageFont=None)
with contextlib.redirect_stdout(sys.stderr):  # they say what they make
    from ldm.models.autoencoder import VQModelInterface
    from ldm.modules.diffusionmodules import openaimodel


def fill(j, shape, scale=1.0):
    """f64 scale * v(i, j) at row-major element i: 32-bit arithmetic that wraps around."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    h = (2654435761 * (i + 1) + 40503 * (j + 1)) & 0xFFFFFFFF
    h ^= h >> 15
    h = h * 2246822519 & 0xFFFFFFFF
    h ^= h >> 13
    return scale * (h / 2.0**32 - 0.5).reshape(shape)


def filled(net):
    """`net` with parameter number j from v(i, j): rank > 1 scaled to unit gain, weights of rank 1 around
    1, biases around 0."""
    for j, (name, p) in enumerate(net.named_parameters()):
        shape = tuple(p.shape)
        if len(shape) > 1:
            value = fill(j, shape, np.sqrt(12 * shape[0] / p.numel()))
        else:
            value = fill(j, shape, 0.2) + (1.0 if name.endswith("weight") else 0.0)
        p.data.copy_(th.from_numpy(value))
    return net.eval()


def unet(m):
    return openaimodel.UNetModel(
        image_size=64, in_channels=3, out_channels=3, model_channels=m, num_res_blocks=2,
        attention_resolutions=[8, 4, 2], channel_mult=[1, 2, 3, 4], num_head_channels=32)


def vq(ch):
    return VQModelInterface(
        embed_dim=3, n_embed=8192, lossconfig={"target": "torch.nn.Identity"},
        ddconfig=dict(double_z=False, z_channels=3, resolution=256, in_channels=3, out_ch=3, ch=ch,
                      ch_mult=[1, 2, 4], num_res_blocks=2, attn_resolutions=[], dropout=0.0))


@contextlib.contextmanager
def everything_in(dtype):
    """The sinusoid of fill.py in the place of theirs. In float64 their casts to float32 become casts to
    float64; the sinusoid stays f32."""
    def embedding(t, dim, repeat_only=False):
        assert not repeat_only and dim % 2 == 0
        return th.cat(sinusoid(t, dim // 2, dim // 2), 1).to(dtype)

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(openaimodel, "timestep_embedding", embedding))
        if dtype == th.float64:
            stack.enter_context(patch.object(th.Tensor, "float", th.Tensor.double))
        stack.enter_context(th.no_grad())
        yield


def layout(net):
    lines = "".join(" ".join([key, *map(str, p.shape)]) + "\n" for key, p in net.state_dict().items())
    return {"tensors": len(net.state_dict()), "parameters": sum(p.numel() for p in net.parameters()),
            "layout": hashlib.sha256(lines.encode()).hexdigest()}


def outputs(name, compute, stride):
    """Of every tensor that compute(dtype) gives, in both types."""
    f32, f64 = compute(th.float32), exact(name, lambda: compute(th.float64))
    found = {}
    for key, out in f64.items():
        if out.dtype == th.int64:
            assert th.equal(out, f32[key]), f"{key} depends on the rounding"
            found[key] = {"first": out[:8].tolist(), "sum": int(out.sum())}
            continue
        roundings[f"{name} {key}"] = rounding(f32[key], out)
        found[key] = numbers(out, stride)
    return found


def make():
    small = filled(unet(32))
    x, t = th.from_numpy(fill(999, (2, 3, 16, 16), np.sqrt(12))), th.tensor([0, 999])

    def unet_output(dtype):
        small.to(dtype).dtype = dtype
        with everything_in(dtype):
            return {"output": small(x.float().to(dtype), t)}

    auto = filled(vq(32))
    images = th.from_numpy(fill(998, (1, 3, 64, 64), 2.0))
    latents = th.from_numpy(fill(996, (1, 3, 16, 16), 2.0))

    def vq_output(dtype):
        with everything_in(dtype):
            auto.to(dtype)
            z = latents.float().to(dtype)
            return {"encode": auto.encode(images.float().to(dtype)), "decode": auto.decode(z),
                    "decode without quantising": auto.decode(z, force_not_quantize=True),
                    "codes": auto.quantize(z)[2][2].flatten()}

    golden = {"unet": layout(small) | outputs("unet", unet_output, 7),
              "vq": layout(auto) | outputs("vq", vq_output, 31)}
    with th.device("meta"):
        golden["full"] = {"LDM-274M": layout(unet(224)), "LDM-89M": layout(unet(128)),
                          "vq-f4": layout(vq(128))}
    return golden, roundings


def commit(folder, variable):
    found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or os.environ[variable]


roundings = {}
with contextlib.redirect_stdout(sys.stderr):
    golden, worst = over_paths(make)
for name, value in worst.items():
    network, key = name.split(" ", 1)
    golden[network][key]["rounding"] = value
golden = {"provenance": {
    "code": f"qianlong0502/DKDM latent-diffusion {commit(LATENT, 'COMMIT')}, "
            f"CompVis/taming-transformers {commit(TAMING, 'TAMING_COMMIT')}",
    "torch": th.__version__.split("+")[0], "numpy": np.__version__,
    "made_by": "tests/golden/make_latent.py"}, **golden}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "latent.json")
with open(path, "w") as file:
    json.dump(golden, file, separators=(",", ":"))
    file.write("\n")
print(path, os.path.getsize(path), "bytes")
