"""Writes networks.json: outputs, gradients, parameter names and counts of the authors' networks.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_networks.py
Needs torch and numpy, and takes timm, which the reference's DiT imports, where it is installed.
Every parameter, input and loss weight is the fill u(i, j) of u_fill.hpp:
  parameter i of state_dict: rank > 1: u sqrt(3 shape[0] / numel); weight of rank 1: 1 + 0.1 u;
  bias: 0.1 u; pos_embed keeps its table. x = 1.7 u(5000), t = [7, 993] or, for one image, [993].
Everything is taken in float64, but for the sinusoid of the time (everything_in of reference.py). Of an
output: its norm, and 512 of its elements at equal distances. Of the gradient of sum(out u(6000)) with
respect to parameter i: its norm, and its products with u(7000 + i), u(9000 + i), with near_start of
reference.py. "rounding": how far the reference in float32 is from that, over the code paths of fill.py:
of those elements, and the largest of a parameter's whole gradient.
"""
import hashlib

import torch as th

from fill import F32
from reference import (everything_in, exact, fill, filled, near_start, over_paths, packed, rounding,
                       short, write)

import timm  # noqa: E402
from guided_diffusion.dit import DiT  # noqa: E402
from guided_diffusion.script_util import create_model  # noqa: E402

CNN = {  # the authors' arch files: size, width, residual blocks, head width, attention; images here
    "14M-CNN": (32, 64, 3, 32, "16,8", 2), "24M-CNN": (32, 96, 2, 32, "16,8", 2),
    "32M-CNN": (32, 96, 3, 32, "16,8", 2), "44M-CNN": (32, 128, 2, 32, "16,8", 2),
    "57M-CNN": (32, 128, 3, 32, "16,8", 2), "57M-CNN-CelebA": (64, 96, 2, 32, "32,16,8", 1),
    "295M-CNN": (64, 192, 3, 64, "32,16,8", 1),
}


def cnn(name):
    size, width, blocks, head, attention, _ = CNN[name]
    return create_model(size, width, blocks, learn_sigma=True, attention_resolutions=attention,
                        num_head_channels=head, use_scale_shift_norm=True, resblock_updown=True,
                        use_new_attention_order=True)


def dit(size, depth, width, heads, patch):
    return DiT(size, patch, 3, width, depth, heads, use_class=False)


def output(net, size, images, dtype):
    net.to(dtype).dtype = dtype
    x = th.from_numpy(fill(5000, (images, 3, size, size), 1.7)).float().to(dtype)
    with th.no_grad(), everything_in(dtype):
        return net(x, th.tensor([7, 993][-images:]))


def picked(out):
    return out.flatten()[::out.numel() // 512][:512]


def numbers(name, make, size, images=2):
    net = make()
    f32 = output(net, size, images, th.float32)
    out = exact(name, lambda: output(net, size, images, th.float64))
    roundings["output " + name] = rounding(picked(f32), picked(out))
    return {"size": size, "images": images, "norm": short(out.norm()), "elements": packed(picked(out))}


def gradient(net, size, dtype):
    net.to(dtype).dtype = dtype
    x = th.from_numpy(fill(5000, (2, 3, size, size), 1.7)).to(F32).to(dtype)
    with everything_in(dtype):
        out = net(x, th.tensor([7, 993]))
        (out * th.from_numpy(fill(6000, tuple(out.shape))).to(F32).to(dtype)).sum().backward()
    found = [p.grad for p in net.parameters()]
    net.zero_grad()  # sets them to None
    return [None if g is None else g.double() for g in found]


def gradients(name, net, size):
    near_start(net)
    f32 = gradient(net, size, th.float32)
    f64 = exact("gradient " + name, lambda: gradient(net, size, th.float64))
    rows = []
    for i, (key, p) in enumerate(net.named_parameters()):
        if p.requires_grad:
            g = f64[i]
            products = [(g * th.from_numpy(fill(base + i, tuple(g.shape))).to(F32)).sum()
                        for base in (7000, 9000)]
            rows.append([key, *map(short, (g.norm(), *products))])
    roundings["gradient " + name] = max(rounding(a, b) for a, b in zip(f32, f64) if b is not None)
    return rows


def layout(net):
    text = "".join(" ".join([name, *map(str, p.shape)]) + "\n"
                   for name, p in net.state_dict().items())
    return {"parameters": sum(p.numel() for p in net.parameters()),
            "tensors": len(net.state_dict()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def make():
    golden = {"timm": timm.__version__, "layout": {}, "output": {}, "gradient": {}}
    with th.device("meta"):
        for name in CNN:
            golden["layout"][name] = layout(cnn(name))
    golden["layout"]["DiT-S/2"] = layout(dit(32, 12, 384, 6, 2))
    for name, (size, *_, images) in CNN.items():
        golden["output"][name] = numbers(name, lambda: filled(cnn(name)), size, images)
    golden["output"]["DiT-S/2"] = numbers("DiT-S/2", lambda: filled(dit(32, 12, 384, 6, 2)), 32)
    golden["gradient"]["14M-CNN"] = gradients("14M-CNN", filled(cnn("14M-CNN")), 32)
    golden["gradient"]["DiT of depth 2"] = gradients("DiT of depth 2", filled(dit(16, 2, 64, 4, 2)), 16)
    return golden, roundings


roundings = {}
golden, worst = over_paths(make)
write("make_networks.py", {**golden, "rounding": worst})
