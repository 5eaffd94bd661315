"""Writes diffusion.json: tables, distributions, losses and single steps of the authors' own code.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_diffusion.py
Needs torch and numpy. Inputs are the fill u(i, j) of u_fill.hpp, in float32; all that follows is taken in
float64, with the authors' casts to float32 made casts to float64, and stored in float32. Their own float32
leaves no digit of some gradients at t = 999, where 1 - exp(1e-6) is all there is. A table is stored as some entries
and as two sums over all of them, weights * ln |entry| with weights 1.5 + u/2, which a relative error
of any entry changes by at least as much.
"""
import math

import numpy as np
import torch as th

from fill import F32
from reference import fill, packed, write

from guided_diffusion import gaussian_diffusion as gd  # noqa: E402
from guided_diffusion.respace import SpacedDiffusion, space_timesteps  # noqa: E402

SHAPE = (3, 3, 4, 4)


def tensor(i, shape=SHAPE, scale=1.0):
    return th.from_numpy(fill(i, shape, scale)).to(F32).double()


def process(schedule="cosine", respacing="", loss=gd.LossType.MSE, kd=False,
            variance=gd.ModelVarType.LEARNED_RANGE):
    betas = gd.get_named_beta_schedule(schedule, 1000)
    kept = space_timesteps(1000, respacing or [1000])
    return SpacedDiffusion(use_timesteps=kept, betas=betas,
                           model_mean_type=gd.ModelMeanType.EPSILON, model_var_type=variance,
                           loss_type=loss, rescale_timesteps=False, kd=kd)


def log_sums(table):
    return [math.fsum((1.5 + 0.5 * w) * math.log(abs(v)) for w, v in
                      zip(fill(i, (len(table),)), table) if v != 0) for i in (8000, 8001)]


def tables(schedule, respacing):
    d = process(schedule, respacing)
    n = d.num_timesteps
    picked = [0, 1, 2, n // 2, n - 2, n - 1]
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
    return {"schedule": schedule, "respacing": respacing, "steps": n, "index": picked,
            "timestep_map": d.timestep_map if n < 1000 else [],
            "values": {k: [float(v[i]) for i in picked] for k, v in named.items()},
            "log_sums": {k: log_sums(v) for k, v in named.items()}}


def away_from_clipping(x0):
    """No value so near to the ends of [-1,1] that rounding, 1e-7 here, could decide the gradient."""
    assert ((x0.abs() - 1).abs() > 1e-4).all()


def distribution(d, output, x_t, t, clip):
    away_from_clipping(d.p_mean_variance(lambda *a: output, x_t, t, clip_denoised=False)["pred_xstart"])
    p = d.p_mean_variance(lambda *a: output, x_t, t, clip_denoised=clip)
    return {name: packed(p[name]) for name in ("mean", "log_variance", "pred_xstart")}


def stepped(method, z, *args, **kwargs):
    original, th.randn_like = th.randn_like, lambda x: z
    try:
        return packed(method(*args, **kwargs)["sample"].to(F32))
    finally:
        th.randn_like = original


th.Tensor.float = th.Tensor.double
x0, noise = tensor(6000), tensor(6001, scale=1.7)
A, B = tensor(6002, (3, 6, 4, 4), 1.2), tensor(6004, (3, 6, 4, 4), 1.1)
x_t = tensor(6003, scale=1.5)
t, t50, first = th.tensor([0, 500, 999]), th.tensor([0, 25, 49]), th.tensor([0, 0, 0])
# Grey levels, both ends among them: the decoder's outermost bins reach to infinity.
grey = (((tensor(6005, scale=140.0) + 127.5).round().clamp(0, 255)).to(F32) / 127.5 - 1).double()
full, short, teacher = process(), process(respacing="50"), process(kd=True)
rescaled = process(respacing="50", loss=gd.LossType.RESCALED_MSE)
short_teacher = process(respacing="50", kd=True)
fixed = process(variance=gd.ModelVarType.FIXED_LARGE)


def listed(terms, output):
    terms["loss"].mean().backward()
    result = {k: [float(v) for v in terms[k].detach()] for k in ("mse", "vb", "loss")}
    return {**result, "gradient": packed(output.grad)}


def hybrid(d, t, images=x0):
    output = A.clone().requires_grad_(True)
    return listed(d.training_losses(lambda *a, **k: output, images, t, model_kwargs={},
                                    noise=noise), output)


def distil(student, d=full, taught=teacher, t=t, student_clip=False):
    for output in (A, student):
        away_from_clipping(d.p_mean_variance(lambda *a, **k: output, x_t, t,
                                             clip_denoised=False)["pred_xstart"])
    out = taught.p_mean_variance(lambda *a, **k: A, x_t, t, clip_denoised=True)
    output = student.clone().requires_grad_(True)
    return listed(d.training_losses_kd(lambda *a, **k: output, None, x_t, t, out, model_kwargs={},
                                       clip_denoised=student_clip), output)


posterior_mean, _, posterior_log_variance = full.q_posterior_mean_variance(x0, x_t, t)
write("make_diffusion.py", {
    "tables": [tables(schedule, respacing) for schedule in ("cosine", "linear")
               for respacing in ("", "50", "100", "ddim25", "10,15,20")],
    "q_sample": packed(full.q_sample(x0, t, noise=noise)),
    "posterior": {"mean": packed(posterior_mean), "log_variance": packed(posterior_log_variance)},
    "clipped": distribution(full, A, x_t, t, True),
    "unclipped": distribution(full, A, x_t, t, False),
    "clipped_50": distribution(short, A, x_t, t50, True),
    "fixed_variance": distribution(fixed, A[:, :3], x_t, t, True),
    "hybrid": hybrid(full, t), "hybrid_50": hybrid(short, t50),
    "hybrid_50_rescaled": hybrid(rescaled, t50), "hybrid_decoder": hybrid(full, first, grey),
    "distil": distil(B), "distil_self": distil(A), "distil_student_clip": distil(B, student_clip=True),
    "distil_50_rescaled": distil(B, rescaled, short_teacher, t50),
    "ancestral": stepped(full.p_sample, noise, lambda *a, **k: A, x_t, t),
    "ancestral_50": stepped(short.p_sample, noise, lambda *a, **k: A, x_t, t50),
    "ddim_eta_0": stepped(full.ddim_sample, noise, lambda *a, **k: A, x_t, t, eta=0.0),
    "ddim_eta_1": stepped(full.ddim_sample, noise, lambda *a, **k: A, x_t, t, eta=1.0),
})
