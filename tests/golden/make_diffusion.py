"""Writes diffusion.json: schedules, losses and sampling steps of the paper's authors' own code.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_diffusion.py
Needs torch and numpy. Inputs are the fill u(i, j) of u_fill.hpp; entries quoted are [n, 1, 2, 3].
"""
import json
import os
import subprocess
import sys

import numpy as np
import torch as th

reference = os.environ["REFERENCE"]
sys.path.insert(0, reference)
from guided_diffusion import gaussian_diffusion as gd  # noqa: E402
from guided_diffusion.respace import SpacedDiffusion, space_timesteps  # noqa: E402

SHAPE = (3, 3, 4, 4)
INDICES = [0, 1, 2, 500, 998, 999]


def fill(i, shape, scale=1.0):
    j = np.arange(int(np.prod(shape)), dtype=np.int64)
    u = 2 * (((7919 * j + 104729 * i + 12345) % 1000003) / 1000003) - 1
    return th.from_numpy((scale * u).reshape(shape)).float()


def process(schedule="cosine", respacing="", loss=gd.LossType.MSE, kd=False,
            variance=gd.ModelVarType.LEARNED_RANGE):
    betas = gd.get_named_beta_schedule(schedule, 1000)
    kept = space_timesteps(1000, respacing or [1000])
    return SpacedDiffusion(use_timesteps=kept, betas=betas,
                           model_mean_type=gd.ModelMeanType.EPSILON, model_var_type=variance,
                           loss_type=loss, rescale_timesteps=False, kd=kd)


def tables(schedule, respacing):
    d = process(schedule, respacing)
    picked = [i for i in INDICES if i < d.num_timesteps]
    if d.num_timesteps < 1000:
        picked = [0, 1, d.num_timesteps // 2, d.num_timesteps - 2, d.num_timesteps - 1]
    named = {
        "beta": d.betas, "alpha_bar": d.alphas_cumprod, "alpha_bar_prev": d.alphas_cumprod_prev,
        "log_beta": np.log(d.betas), "sqrt_alpha_bar": d.sqrt_alphas_cumprod,
        "sqrt_one_minus_alpha_bar": d.sqrt_one_minus_alphas_cumprod,
        "sqrt_recip_alpha_bar": d.sqrt_recip_alphas_cumprod,
        "sqrt_recipm1_alpha_bar": d.sqrt_recipm1_alphas_cumprod,
        "posterior_variance": d.posterior_variance,
        "posterior_log_variance_clipped": d.posterior_log_variance_clipped,
        "posterior_mean_coef_x0": d.posterior_mean_coef1,
        "posterior_mean_coef_xt": d.posterior_mean_coef2,
    }
    return {"schedule": schedule, "respacing": respacing, "steps": d.num_timesteps,
            "index": picked, "timestep_map": d.timestep_map if d.num_timesteps < 1000 else [],
            "values": {k: [float(v[i]) for i in picked] for k, v in named.items()},
            "sums": {k: float(np.sum(v)) for k, v in named.items()}}


def pick(x, channel=1):
    return [float(v) for v in x[:, channel, 2, 3]]


def distribution(d, output, x_t, t, clip):
    p = d.p_mean_variance(lambda *a: output, x_t, t, clip_denoised=clip)
    return {"mean": pick(p["mean"]), "log_variance": pick(p["log_variance"]),
            "pred_xstart": pick(p["pred_xstart"])}


def stepped(method, z, *args, **kwargs):
    original, th.randn_like = th.randn_like, lambda x: z
    try:
        return pick(method(*args, **kwargs)["sample"])
    finally:
        th.randn_like = original


x0, noise = fill(6000, SHAPE), fill(6001, SHAPE, 1.7)
A, B = fill(6002, (3, 6, 4, 4), 1.2), fill(6004, (3, 6, 4, 4), 1.1)
x_t = fill(6003, SHAPE, 1.5)
t, t50 = th.tensor([0, 500, 999]), th.tensor([0, 25, 49])
full, short, teacher = process(), process(respacing="50"), process(kd=True)
fixed = process(variance=gd.ModelVarType.FIXED_LARGE)


def hybrid(d, t):
    terms = d.training_losses(lambda *a, **k: A, x0, t, model_kwargs={}, noise=noise)
    return {k: [float(v) for v in terms[k]] for k in ("mse", "vb", "loss")}


def distil(output, student_clip=False, gradient=False):
    out = teacher.p_mean_variance(lambda *a, **k: A, x_t, t, clip_denoised=True)
    student = output.clone().requires_grad_(True)
    terms = full.training_losses_kd(lambda *a, **k: student, None, x_t, t, out, model_kwargs={},
                                    clip_denoised=student_clip)
    terms["loss"].mean().backward()
    result = {k: [float(v) for v in terms[k]] for k in ("mse", "vb", "loss")}
    if gradient:
        result["gradient_eps"], result["gradient_v"] = pick(student.grad), pick(student.grad, 4)
    return result


commit = subprocess.run(["git", "-C", reference, "rev-parse", "HEAD"], capture_output=True,
                        text=True).stdout.strip()
golden = {
    "provenance": {"code": "qianlong0502/DKDM guided-diffusion " + commit,
                   "torch": th.__version__, "numpy": np.__version__,
                   "made_by": "tests/golden/make_diffusion.py"},
    "tables": [tables("cosine", ""), tables("linear", ""), tables("cosine", "50"),
               tables("cosine", "10,15,20"), tables("linear", "ddim25")],
    "q_sample": pick(full.q_sample(x0, t, noise=noise)),
    "clipped": distribution(full, A, x_t, t, True),
    "unclipped": distribution(full, A, x_t, t, False),
    "fixed_variance": distribution(fixed, A[:, :3], x_t, t, True),
    "hybrid": hybrid(full, t), "hybrid_50": hybrid(short, t50),
    "distil": distil(B, gradient=True), "distil_self": distil(A),
    "distil_student_clip": distil(B, student_clip=True, gradient=True),
    "ancestral": stepped(full.p_sample, noise, lambda *a, **k: A, x_t, t),
    "ancestral_50": stepped(short.p_sample, noise, lambda *a, **k: A, x_t, t50),
    "ddim_eta_0": stepped(full.ddim_sample, noise, lambda *a, **k: A, x_t, t, eta=0.0),
    "ddim_eta_1": stepped(full.ddim_sample, noise, lambda *a, **k: A, x_t, t, eta=1.0),
}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "diffusion.json")
with open(path, "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")
