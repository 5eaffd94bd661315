"""What the make_*.py scripts share: the authors' code on the path, the fill u(i, j), small storage.

REFERENCE names the guided-diffusion folder of a checkout of qianlong0502/DKDM. Its imports of mpi4py,
blobfile and timm are met by the few lines below. A checkout without .git takes its commit from COMMIT.
"""
import base64
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
from torch import nn

from fill import F32, exact, fill, filled, over_paths, rounding, sinusoid  # noqa: F401

REFERENCE = os.environ["REFERENCE"]
sys.path.insert(0, REFERENCE)
th.set_num_threads(1)  # the order of sums, hence the last bit, depends on it


class PatchEmbed(nn.Module):
    def __init__(self, size, patch, channels, width, bias=True):
        super().__init__()
        self.patch_size = (patch, patch)
        self.num_patches = (size // patch) ** 2
        self.proj = nn.Conv2d(channels, width, patch, stride=patch, bias=bias)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width, num_heads, qkv_bias):
        super().__init__()
        self.heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class Mlp(nn.Module):
    def __init__(self, in_features, hidden_features, act_layer, drop):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class OneProcess:
    rank, size = 0, 1

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1


def provide(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


try:  # the real package where it is installed
    import timm.models.vision_transformer
except ImportError:
    provide("timm", __version__="replaced by reference.py")
    provide("timm.models")
    provide("timm.models.vision_transformer", PatchEmbed=PatchEmbed, Attention=Attention, Mlp=Mlp)
provide("mpi4py", MPI=types.SimpleNamespace(COMM_WORLD=OneProcess()))
provide("blobfile", BlobFile=open, join=os.path.join, exists=os.path.exists,
        dirname=os.path.dirname)


def near_start(net):
    """`net` with the layers that begin at zero brought near to it: of full gain, it is chaotic."""
    with th.no_grad():
        for name, p in net.named_parameters():
            if any(part in name for part in ("out_layers.3.", "proj_out.", "out.2.",
                                             "adaLN_modulation.", "final_layer.linear.")):
                p.mul_(0.1)
    return net


@contextlib.contextmanager
def everything_in(dtype):
    """The sinusoid of fill.py in the place of the authors'. In float64 their casts to float32 become casts
    to float64; the sinusoid stays f32, and the norms that are logged, which insist on float32, are
    left out."""
    from guided_diffusion import dit, fp16_util, unet

    def embedding(t, dim, max_period=10000):
        assert max_period == 10000 and dim % 2 == 0
        return th.cat(sinusoid(t, dim // 2, dim // 2), 1).to(dtype)

    with (patch.object(unet, "timestep_embedding", embedding),
          patch.object(dit.TimestepEmbedder, "timestep_embedding", staticmethod(embedding)),
          contextlib.ExitStack() as stack):
        if dtype == th.float64:
            stack.enter_context(patch.object(th.Tensor, "float", th.Tensor.double))
            stack.enter_context(patch.object(fp16_util.MixedPrecisionTrainer, "_compute_norms",
                                             lambda self: (0.0, 0.0)))
        yield


def packed(x):
    """The bytes of a tensor as little-endian f32, in base64: packed.hpp reads them."""
    values = x.detach().to(F32).contiguous().numpy().astype("<f4")
    return {"shape": list(x.shape), "f32": base64.b64encode(values.tobytes()).decode()}


def short(x, digits=9):
    return float(f"{float(x):.{digits}g}")


def provenance(script):
    found = subprocess.run(["git", "-C", REFERENCE, "rev-parse", "HEAD"], capture_output=True,
                           text=True)
    commit = found.stdout.strip() or os.environ["COMMIT"]
    digest = hashlib.sha256()
    folder = os.path.join(REFERENCE, "guided_diffusion")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            digest.update(open(os.path.join(folder, name), "rb").read())
    return {"code": f"qianlong0502/DKDM guided-diffusion {commit}",
            "sha256_of_guided_diffusion": digest.hexdigest(),
            "torch": th.__version__.split("+")[0], "numpy": np.__version__,
            "made_by": "tests/golden/" + script}


def write(script, golden):
    """golden to make_X.py's X.json, with its provenance; lists of numbers stay on one line."""
    golden = {"provenance": provenance(script), **golden}
    name = script.removeprefix("make_").replace(".py", ".json")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, "w") as file:
        file.write(lines(golden) + "\n")
    print(path, os.path.getsize(path), "bytes")


def lines(value, indent=0):
    pad = " " * (indent + 1)
    flat = json.dumps(value)
    if isinstance(value, dict) and len(flat) > 100:
        body = ",\n".join(f"{pad}{json.dumps(k)}: {lines(v, indent + 1)}" for k, v in value.items())
        return "{\n" + body + "\n" + " " * indent + "}"
    if isinstance(value, list) and any(isinstance(v, (list, dict)) for v in value):
        return "[\n" + ",\n".join(pad + lines(v, indent + 1) for v in value) + "]"
    return flat
