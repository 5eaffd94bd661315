"""Writes samplers.json: every state of short sampling chains of the authors' own loops.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_samplers.py
Needs torch and numpy. The network is the closed form below; noise is that of dkdm::sample for seed 11,
samples 3 and 4 (philox.py). DPM-Solver goes through the authors' dpm_sample_loop_plus, whose 20 steps
are also made 10 and 5. "exact" repeats each chain in float64, the reference's coefficients of DDIM and
DPM-Solver being float32.
"""
import contextlib
import functools

import torch as th

from philox import Random
from reference import packed, write

from guided_diffusion import gaussian_diffusion as gd  # noqa: E402
from guided_diffusion.respace import SpacedDiffusion, space_timesteps  # noqa: E402

SEED, SAMPLES, SHAPE = 11, [3, 4], (3, 3, 3)


def network(x, t, **kwargs):
    t = t.to(x.dtype).view(-1, 1, 1, 1)
    return th.cat([0.7 * x + 0.2 * th.sin(3 * x + 0.01 * t), 0.5 * th.sin(2 * x - 0.02 * t)], 1)


def process(schedule, respacing):
    return SpacedDiffusion(use_timesteps=space_timesteps(1000, respacing or [1000]),
                           betas=gd.get_named_beta_schedule(schedule, 1000),
                           model_mean_type=gd.ModelMeanType.EPSILON,
                           model_var_type=gd.ModelVarType.LEARNED_RANGE,
                           loss_type=gd.LossType.MSE, rescale_timesteps=False)


def noise(stream, step, dtype):
    return th.from_numpy(Random(SEED, stream).normal(step, SAMPLES, SHAPE)).to(dtype)


@contextlib.contextmanager
def noise_of_steps(steps, dtype):
    originals = th.randn_like, th.Tensor.float
    left = list(range(steps))
    th.randn_like = lambda x: noise("sample_noise", left.pop(), dtype)  # from the last step down
    if dtype == th.float64:
        th.Tensor.float = th.Tensor.double
    try:
        yield
    finally:
        th.randn_like, th.Tensor.float = originals
    assert not left


def chain(loop, exact=False, **kwargs):
    d, dtype = process("cosine", "10"), th.float64 if exact else th.float32
    start = noise("sample_start", 0, dtype)
    with noise_of_steps(d.num_timesteps, dtype):
        states = [out["sample"] for out in getattr(d, loop)(
            network, tuple(start.shape), noise=start, device="cpu", **kwargs)]
    return packed(th.stack([start, *states]))


def solver(steps, schedule="cosine", exact=False, threshold=True):
    states = []

    class Recording(gd.DPM_Solver):
        def __init__(self, *args, **kwargs):
            if not threshold:
                kwargs["correcting_x0_fn"] = None
            super().__init__(*args, **kwargs)

        def sample(self, x, **kwargs):
            kwargs["steps"] = steps or kwargs["steps"]
            result, seen = super().sample(x, return_intermediate=True, **kwargs)
            states.extend(seen)
            return result

    dtype = th.float64 if exact else th.float32
    originals = gd.DPM_Solver, gd.NoiseScheduleVP
    gd.DPM_Solver = Recording
    gd.NoiseScheduleVP = functools.partial(gd.NoiseScheduleVP, dtype=dtype)
    th.set_default_dtype(dtype)
    start = noise("sample_start", 0, dtype)
    process(schedule, "").dpm_sample_loop_plus(network, tuple(start.shape), noise=start,
                                               device="cpu", model_kwargs={})
    th.set_default_dtype(th.float32)
    gd.DPM_Solver, gd.NoiseScheduleVP = originals
    return packed(th.stack(states))


def both(run, *args, **kwargs):
    return {"called": run(*args, **kwargs), "exact": run(*args, exact=True, **kwargs)}


ancestral, ddim = "p_sample_loop_progressive", "ddim_sample_loop_progressive"
write("make_samplers.py", {
    "ancestral": both(chain, ancestral),
    "ancestral_unclipped": both(chain, ancestral, clip_denoised=False),
    "ddim_eta_0": both(chain, ddim, eta=0.0), "ddim_eta_1": both(chain, ddim, eta=1.0),
    "dpm_solver_20": both(solver, None), "dpm_solver_10": both(solver, 10),
    "dpm_solver_5": both(solver, 5), "dpm_solver_10_linear": both(solver, 10, schedule="linear"),
    "dpm_solver_10_unthresholded": both(solver, 10, threshold=False),
})
