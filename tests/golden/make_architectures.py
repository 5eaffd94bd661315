"""Writes architectures.json: outputs of tiny networks of the authors' code for the students edm-unet
(SongUNet and EDMPrecond), uvit (UViT) and mlp-mixer (timm's MlpMixer).

EDM=<checkout of NVlabs/edm> UVIT=<checkout of baofff/U-ViT> python3 make_architectures.py
Needs torch, numpy, timm and einops. Weights as fill.py, pos_embed = 0.1 u(0); input x = 1.7 u(5000),
t = [7, 993]. Outputs are taken in float64, but for the sinusoid of fill.py, which takes the place of theirs;
"rounding" is how far the authors' code in float32 is from that, over the code paths of fill.py. `layout` is the SHA-256 of the lines "name lengths" of the parameters.
"""
import functools
import hashlib
import json
import os
import sys
from unittest.mock import patch

import numpy as np
import timm
import torch as th

from fill import exact, fill, filled, numbers, over_paths, rounding, sinusoid

for name in ("EDM", "UVIT"):
    sys.path.insert(0, os.environ[name])
from libs import uvit as libs_uvit  # noqa: E402
from libs.uvit import UViT, unpatchify  # noqa: E402
from timm.models.mlp_mixer import MlpMixer  # noqa: E402
from training.networks import EDMPrecond, PositionalEmbedding, SongUNet  # noqa: E402

STEPS = [7, 993]


def image(channels, size):
    return th.from_numpy(fill(5000, (2, channels, size, size), 1.7)).float()


def layout(net):
    lines = "".join(" ".join([key, *map(str, p.shape)]) + "\n" for key, p in net.named_parameters())
    return hashlib.sha256(lines.encode()).hexdigest()


def positions(self, x):
    assert self.max_positions == 10000 and self.endpoint
    return th.cat(sinusoid(x, self.num_channels // 2, self.num_channels // 2 - 1), 1).to(x.dtype)


def golden(name, net, student, channels, size, run):
    """run(dtype) in both types, the authors' float32 being float64 in the second."""
    def output(dtype):
        net.to(dtype)
        with (th.no_grad(), patch.object(th, "float32", dtype),
              patch.object(th.Tensor, "float", lambda x: x.to(dtype)),
              patch.object(PositionalEmbedding, "forward", positions),
              patch.object(libs_uvit, "timestep_embedding", lambda t, dim: th.cat(
                  sinusoid(t, dim // 2, dim // 2), 1).to(dtype))):
            return run(dtype)

    f32, out = output(th.float32), exact(name, lambda: output(th.float64))
    roundings[name] = rounding(f32, out)
    return {"channels": channels, "size": size, "student": student,
            "layout": layout(getattr(net, "model", net)), "output": numbers(out, 7)}


def song(name, student, channels, size, **arguments):
    """SongUNet called as EDM's VP column calls it: eps of x_t and t."""
    net = filled(SongUNet(size, channels, 2 * channels, dropout=0, **arguments))
    x, t = image(channels, size), th.tensor(STEPS).float()
    return golden(name, net, {"plugin": "edm-unet", **student}, channels, size,
                  lambda dtype: net(x.to(dtype), t.to(dtype), None))


def preconditioned(name, student, sigma_data, **arguments):
    """eps = (x - D(x; sigma)) / sigma of EDMPrecond at the noise levels of the cosine schedule."""
    net = EDMPrecond(16, 3, model_type="SongUNet", sigma_data=sigma_data, dropout=0, **arguments)
    filled(net.model)
    s = np.arange(1001) / 1000
    alpha_bar = np.cos((s + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    a = th.from_numpy(np.cumprod(1 - beta)[STEPS])
    x_t = image(3, 16)

    def run(dtype):
        sigma = ((1 - a) / a).sqrt().to(dtype)
        x = x_t.to(dtype) / a.sqrt().to(dtype).view(-1, 1, 1, 1)
        return (x - net(x, sigma)) / sigma.view(-1, 1, 1, 1)

    return golden(name, net, {"plugin": "edm-unet", **student}, 3, 16, run)


def uvit(name, student, channels, size, **arguments):
    """UViT for the image's channels, its head widened to eps and v."""
    net = UViT(img_size=size, in_chans=channels, **arguments)
    patch_size, width = net.patch_embed.patch_size, net.embed_dim
    net.in_chans = 2 * channels
    net.decoder_pred = th.nn.Linear(width, patch_size ** 2 * 2 * channels)
    if isinstance(net.final_layer, th.nn.Conv2d):
        net.final_layer = th.nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
    filled(net)
    net.pos_embed.data.copy_(th.from_numpy(fill(0, tuple(net.pos_embed.shape), 0.1)))
    x = image(channels, size)
    return golden(name, net, {"plugin": "uvit", **student}, channels, size,
                  lambda dtype: net(x.to(dtype), th.tensor(STEPS)))


def mixer(name, student, channels, size, **arguments):
    """Tokens of MlpMixer before its pooling, and a filled linear layer to patches in the head's place."""
    gelu = functools.partial(th.nn.GELU, approximate="tanh")
    net = MlpMixer(img_size=size, in_chans=channels, num_classes=0, act_layer=gelu, **arguments)
    net.head = th.nn.Linear(net.embed_dim, arguments["patch_size"] ** 2 * 2 * channels)
    filled(net)
    x = image(channels, size)
    return golden(name, net, {"plugin": "mlp-mixer", **student}, channels, size,
                  lambda dtype: unpatchify(net.head(net.forward_features(x.to(dtype))), 2 * channels))


CASES = {
    "ddpm++": (song, (
        dict(model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8]), 3, 16),
        dict(model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8])),
    "ddpm++, grey, three levels": (song, (
        dict(model_channels=16, channel_mult=[2, 1, 3], num_blocks=2, attn_resolutions=[16, 4],
             channel_mult_emb=2), 1, 16),
        dict(model_channels=16, channel_mult=[2, 1, 3], num_blocks=2, attn_resolutions=[16, 4],
             channel_mult_emb=2)),
    "edm": (preconditioned, (
        dict(model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8],
             precondition=True, learn_sigma=False), 0.5),
        dict(model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8])),
    "edm, other spread": (preconditioned, (
        dict(model_channels=16, channel_mult=[1], num_blocks=1, attn_resolutions=[],
             precondition=True, sigma_data=0.8, learn_sigma=False), 0.8),
        dict(model_channels=16, channel_mult=[1], num_blocks=1, attn_resolutions=[])),
    "u-vit": (uvit, (dict(embed_dim=48, depth=4, num_heads=3, patch_size=4), 3, 16),
              dict(embed_dim=48, depth=4, num_heads=3, patch_size=4)),
    "u-vit, every option": (uvit, (
        dict(embed_dim=32, depth=2, num_heads=2, patch_size=2, mlp_ratio=2.0, qkv_bias=True,
             mlp_time_embed=True, long_skips=False, final_conv=False), 1, 8),
        dict(embed_dim=32, depth=2, num_heads=2, patch_size=2, mlp_ratio=2.0, qkv_bias=True,
             mlp_time_embed=True, skip=False, conv=False)),
    "mixer": (mixer, (
        dict(patch_size=4, num_blocks=2, hidden_dim=48, tokens_mlp_dim=24, channels_mlp_dim=192), 3, 16),
        dict(patch_size=4, num_blocks=2, embed_dim=48, mlp_ratio=(0.5, 4.0))),
}
roundings = {}
networks, worst = over_paths(lambda: (
    {name: make(name, *given, **arguments) for name, (make, given, arguments) in CASES.items()},
    roundings))
for name, network in networks.items():
    network["output"]["rounding"] = worst[name]

source = ("NVlabs/edm 008a4e5316c8e3bfe61a62f874bddba254295afb, "
          "baofff/U-ViT ce551708dc9cde9818d2af7d84dfadfeb7bd9034, "
          f"timm {timm.__version__}, torch {th.__version__.split('+')[0]}")
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "architectures.json"), "w") as file:
    json.dump({"source": source, "networks": networks}, file, separators=(",", ":"))
    file.write("\n")
