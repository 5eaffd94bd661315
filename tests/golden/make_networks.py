"""Writes networks.json: outputs, gradients, parameter names and counts of the authors' networks.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_networks.py
Needs torch and numpy. timm, which the reference's DiT imports, is replaced by three classes below.
Every parameter, input and loss weight is the fill u(i, j) of u_fill.hpp:
  parameter i of state_dict: rank > 1: u sqrt(3 shape[0] / numel); weight of rank 1: 1 + 0.1 u;
  bias: 0.1 u; pos_embed keeps its table. x = 1.7 u(5000), t = [7, 993]. loss = sum(out u(6000)).
"""
import hashlib
import json
import os
import subprocess
import sys
import types

import numpy as np
import torch as th
from torch import nn

reference = os.environ["REFERENCE"]
sys.path.insert(0, reference)


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


for name in ("timm", "timm.models", "timm.models.vision_transformer"):
    sys.modules[name] = types.ModuleType(name)
vit = sys.modules["timm.models.vision_transformer"]
vit.PatchEmbed, vit.Attention, vit.Mlp = PatchEmbed, Attention, Mlp
from guided_diffusion.dit import DiT  # noqa: E402
from guided_diffusion.script_util import create_model  # noqa: E402

CNN = {  # the authors' arch files: size, width, residual blocks, head width, attention
    "14M-CNN": (32, 64, 3, 32, "16,8"), "24M-CNN": (32, 96, 2, 32, "16,8"),
    "32M-CNN": (32, 96, 3, 32, "16,8"), "44M-CNN": (32, 128, 2, 32, "16,8"),
    "57M-CNN": (32, 128, 3, 32, "16,8"), "57M-CNN-CelebA": (64, 96, 2, 32, "32,16,8"),
    "295M-CNN": (64, 192, 3, 64, "32,16,8"),
}


def cnn(name):
    size, width, blocks, head, attention = CNN[name]
    return create_model(size, width, blocks, learn_sigma=True, attention_resolutions=attention,
                        num_head_channels=head, use_scale_shift_norm=True, resblock_updown=True,
                        use_new_attention_order=True)


def dit(size, depth, width, heads, patch):
    return DiT(size, patch, 3, width, depth, heads, use_class=False)


def fill(i, shape, scale=1.0):
    j = np.arange(int(np.prod(shape)), dtype=np.int64)
    u = 2 * (((7919 * j + 104729 * i + 12345) % 1000003) / 1000003) - 1
    return scale * u.reshape(shape)


def filled(net):
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


def output(net, size):
    x = th.from_numpy(fill(5000, (2, 3, size, size), 1.7)).float()
    return net(x, th.tensor([7, 993]))


def numbers(net, size):
    with th.no_grad():
        out = output(net, size)
    return {"mean": out.mean().item(), "std": out.std(correction=0).item(),
            "sum_abs": out.abs().sum().item(), "first": out[0, 0, 0, :4].tolist(),
            "last": out[1, 5, size // 2, size - 1].item()}


def gradients(net, size):
    out = output(net, size)
    (out * th.from_numpy(fill(6000, tuple(out.shape))).float()).sum().backward()
    return [[name, float(f"{p.grad.norm().item():.7g}")]
            for name, p in net.named_parameters() if p.requires_grad]


def layout(net):
    lines = "".join(" ".join([name, *map(str, p.shape)]) + "\n"
                    for name, p in net.state_dict().items())
    return {"parameters": sum(p.numel() for p in net.parameters()),
            "tensors": len(net.state_dict()), "sha256": hashlib.sha256(lines.encode()).hexdigest()}


commit = subprocess.run(["git", "-C", reference, "rev-parse", "HEAD"], capture_output=True,
                        text=True, check=True).stdout.strip()
golden = {"source": f"qianlong0502/DKDM {commit}, torch {th.__version__.split('+')[0]}",
          "layout": {}, "output": {}, "gradient_norm": {}}
with th.device("meta"):
    for name in CNN:
        golden["layout"][name] = layout(cnn(name))
golden["layout"]["DiT-S/2"] = layout(dit(32, 12, 384, 6, 2))
for name in ("14M-CNN", "24M-CNN", "57M-CNN-CelebA"):
    golden["output"][name] = numbers(filled(cnn(name)), CNN[name][0])
golden["output"]["DiT-S/2"] = numbers(filled(dit(32, 12, 384, 6, 2)), 32)
golden["gradient_norm"]["14M-CNN"] = gradients(filled(cnn("14M-CNN")), 32)
golden["gradient_norm"]["DiT of depth 2"] = gradients(filled(dit(16, 2, 64, 4, 2)), 16)

text = json.dumps(golden, indent=1)
# A name and its norm on one line.
text = text.replace("\n   [\n    \"", "\n   [\"").replace(",\n    ", ", ").replace("\n   ]", "]")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "networks.json"), "w") as file:
    file.write(text + "\n")
