"""Writes unet_options.json: outputs of tiny UNets of the reference's class UNetModel, one for each
option that the paper's networks do not use.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_unet_options.py
Needs torch and numpy. Weights as fill.py, input x = 1.7 u(5000), t = [7, 993]. Outputs are taken in float64,
but for the sinusoid of the time (everything_in of reference.py); "rounding" is how far the reference in
float32 is from that, over the code paths of fill.py.
"""
import hashlib

import torch as th

from fill import numbers
from reference import everything_in, exact, fill, filled, over_paths, rounding, write

from guided_diffusion.unet import UNetModel  # noqa: E402

# What all share, as the reference's class and as the plugin adm-unet call it. attention_resolutions
# are factors there and pixels here: 2 is 4 of 8 pixels.
BASE = dict(image_size=8, in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1,
            attention_resolutions={2}, channel_mult=(1, 2), num_head_channels=16,
            use_scale_shift_norm=True, resblock_updown=True, use_new_attention_order=True)
STUDENT = dict(model_channels=32, num_res_blocks=1, channel_mult=[1, 2],
               attention_resolutions=[4], num_head_channels=16)
# name: (what differs in the class, what differs in the plugin)
CASES = {
    "legacy attention order": (dict(use_new_attention_order=False),
                               dict(use_new_attention_order=False)),
    "heads by number": (dict(num_head_channels=-1, num_heads=2, num_heads_upsample=4),
                        dict(num_heads=2, num_heads_upsample=4)),
    "convolutions resample": (dict(resblock_updown=False), dict(resblock_updown=False)),
    "pooling resamples": (dict(resblock_updown=False, conv_resample=False),
                          dict(resblock_updown=False, conv_resample=False)),
    "time is added": (dict(use_scale_shift_norm=False, out_channels=3),
                      dict(use_scale_shift_norm=False, learn_sigma=False)),
    "half a multiple": (dict(model_channels=64, channel_mult=(0.5, 1), num_res_blocks=2),
                        dict(time_channels=64, num_res_blocks=2)),
    "grey, attention everywhere": (dict(in_channels=1, out_channels=2, attention_resolutions={1, 2}),
                                   dict(attention_resolutions=[8, 4])),
    # Called with label 3; the plugin guided-diffusion makes it an unconditional network.
    "classes": (dict(num_classes=10), {}),
}


def case(name):
    network, student = CASES[name]
    arguments = BASE | network
    net = filled(UNetModel(**arguments))
    channels = arguments["in_channels"]
    x = th.from_numpy(fill(5000, (2, channels, 8, 8), 1.7)).float()
    labels = {"y": th.tensor([3, 3])} if "num_classes" in arguments else {}

    def output(dtype):
        net.to(dtype).dtype = dtype
        with th.no_grad(), everything_in(dtype):
            return net(x.to(dtype), th.tensor([7, 993]), **labels)

    f32, out = output(th.float32), exact(name, lambda: output(th.float64))
    roundings[name] = rounding(f32, out)
    lines = "".join(" ".join([key, *map(str, p.shape)]) + "\n" for key, p in net.state_dict().items())
    return {"channels": channels, "student": STUDENT | student,
            "layout": hashlib.sha256(lines.encode()).hexdigest(), "output": numbers(out, 7)}


roundings = {}
networks, worst = over_paths(lambda: ({name: case(name) for name in CASES}, roundings))
for name, network in networks.items():
    network["output"]["rounding"] = worst[name]
write("make_unet_options.py", {"networks": networks})
