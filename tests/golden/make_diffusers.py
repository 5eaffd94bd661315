"""Writes diffusers.json: outputs and schedules of tiny UNet2DModels of the Python package diffusers.

python3 make_diffusers.py
Needs torch, numpy and diffusers. Weights as fill.py (parameter i in the order of `tensors`), input
x = 1.7 u(5000), t = [7, T - 7]. Networks are taken in float64, but for the sinusoid of fill.py, which takes the
place of theirs; "rounding" is how far float32 is from that, over the code paths of fill.py. `eps` is what the scheduler's own step makes of the network's output:
(x - sqrt(alpha_bar) x0) / sqrt(1 - alpha_bar) of its unclipped x0.
"""
import json
import os
from unittest.mock import patch

import diffusers
import torch as th
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.models import embeddings

from fill import exact, fill, filled, numbers, over_paths, rounding, sinusoid

CASES = {
    # The family of google/ddpm-cifar10-32, scaled down.
    "ddpm-cifar10": (
        dict(sample_size=8, block_out_channels=(32, 64, 64), layers_per_block=1,
             down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None,
             flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, norm_eps=1e-6),
        DDPMScheduler(variance_type="fixed_large")),
    "v, scale and shift": (
        dict(sample_size=8, block_out_channels=(32, 64), layers_per_block=2, in_channels=1,
             out_channels=1, down_block_types=("AttnDownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "AttnUpBlock2D"), attention_head_dim=16,
             norm_num_groups=16, resnet_time_scale_shift="scale_shift", center_input_sample=True,
             mid_block_scale_factor=1.4142135, attn_norm_num_groups=8),
        DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
                      variance_type="fixed_small_log", clip_sample=False)),
    "sample, learned variance": (
        dict(sample_size=(8, 8), block_out_channels=(32, 32), layers_per_block=1, out_channels=6,
             down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
             resnet_time_scale_shift="scale_shift", time_embedding_dim=48),
        DDPMScheduler(num_train_timesteps=500, beta_schedule="scaled_linear", beta_start=0.00085,
                      beta_end=0.012, prediction_type="sample", variance_type="learned_range",
                      clip_sample=False)),
    "no attention in the middle": (
        dict(sample_size=8, block_out_channels=(32, 64), layers_per_block=1,
             down_block_types=("DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False),
        DDIMScheduler(beta_start=0.0002, beta_end=0.03)),
}


def embedding(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    assert scale == 1 and max_period == 10000 and dim % 2 == 0
    cos, sin = sinusoid(t, dim // 2, dim // 2 - downscale_freq_shift)
    return th.cat([cos, sin] if flip_sin_to_cos else [sin, cos], 1)


def case(name):
    arguments, scheduler = CASES[name]
    net = filled(UNet2DModel(**arguments))
    steps = scheduler.config.num_train_timesteps
    x = th.from_numpy(fill(5000, (2, net.config.in_channels, 8, 8), 1.7)).float()
    t = th.tensor([7, steps - 7])
    # One step of each row gives the scheduler's x0; the process of DDIM is that of DDPM. Its tables are
    # float32 products, and so are eps's factors here, in either type of the network.
    stepper = DDPMScheduler.from_config(scheduler.config, clip_sample=False)
    channels = net.config.in_channels

    def output(dtype):
        net.to(dtype)
        with th.no_grad(), patch.object(embeddings, "get_timestep_embedding", embedding):
            raw = net(x.to(dtype), t).sample
        x0 = th.cat([stepper.step(raw[n:n + 1], int(t[n]), x[n:n + 1].to(dtype)).pred_original_sample
                     for n in range(2)])
        alpha_bar = stepper.alphas_cumprod[t].view(-1, 1, 1, 1).to(dtype)
        eps = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return eps if raw.shape[1] == channels else th.cat([eps, raw[:, channels:]], 1)

    f32, out = output(th.float32), exact(name, lambda: output(th.float64))
    roundings[name] = rounding(f32, out)
    picked = [0, 1, steps // 2, steps - 2, steps - 1]
    golden = {"config": json.loads(net.to_json_string()),
              "scheduler": json.loads(scheduler.to_json_string()),
              "tensors": [[key, list(p.shape)] for key, p in net.named_parameters()],
              "output": numbers(out, 3), "steps": picked,
              "alpha_bar": [float(f"{scheduler.alphas_cumprod[i]:.9g}") for i in picked]}
    if str(scheduler.config.get("variance_type")).startswith("fixed"):
        picked = picked[1:]
        golden["log_variance"] = [
            float(f"{th.log(th.as_tensor(stepper._get_variance(i, variance_type=kind))).item():.8g}")
            for i in picked
            for kind in [scheduler.config.variance_type.removesuffix("_log")]]
    return golden


roundings = {}
networks, worst = over_paths(lambda: ({name: case(name) for name in CASES}, roundings))
for name, network in networks.items():
    network["output"]["rounding"] = worst[name]
golden = {"source": f"diffusers {diffusers.__version__}, torch {th.__version__.split('+')[0]}",
          "networks": networks}
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "diffusers.json"), "w") as file:
    json.dump(golden, file, separators=(",", ":"))
    file.write("\n")
