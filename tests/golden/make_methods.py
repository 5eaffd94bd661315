"""Writes methods.json: 20 training steps of the authors' own loops, method by method, on tiny networks.

REFERENCE=<checkout of qianlong0502/DKDM>/guided-diffusion python3 make_methods.py
Needs torch and numpy. The authors' KDTeacherLoader (preparation included), KDTrainLoop and TrainLoop
run as they are; only their sources of chance are replaced, by the draws that our methods make for
seed 5 (philox.py). Chains are respaced to 8 steps, so that rows finish and restart within 20 steps;
the "ddim" spacing leaves out the last steps, where x0 = (x_t - eps) / 5e-5 magnifies rounding, and the
learning rate is small: with 1e-4 training so small a network is chaotic, and after 20 steps two runs
of the reference itself have nothing in common. So small a change of weights near 0.1 is known to about
four thousandths in float32; the EMA decays fast so that its change is no smaller.

Each method runs twice, in float32 as the authors run it and with every network and state in float64,
with the same draws and the sinusoid of fill.py. The file holds the float64 run, and as "rounding" the
relative distance of the float32 run from it, the largest over the code paths of fill.py: what rounding
alone does in 20 steps, and so how far another implementation may be.
Of every parameter's change since the start there is its norm and its products with u(9000 + i) and
u(19000 + i); of the EMA's change, the same.
"""
import contextlib
import os
import tempfile
import types

import numpy as np
import torch as th
import torch.distributed as dist

from philox import TRAINING_NOISE, Random
from reference import (everything_in, exact, fill, filled, near_start, over_paths, packed, short,
                       write)

from guided_diffusion import logger, train_util, train_util_kd  # noqa: E402
from guided_diffusion.resample import UniformSampler  # noqa: E402
from guided_diffusion.script_util import create_gaussian_diffusion, create_model  # noqa: E402

SEED, STEPS, BATCH, SIZE, RHO, CHAIN = 5, 20, 4, 8, 0.5, "ddim8"
LR, EMA, IMAGES = 4e-6, 0.5, 12
SHAPE = (3, SIZE, SIZE)


class Finished(Exception):
    pass


def network(mult):
    net = create_model(SIZE, 64, 1, channel_mult=mult, learn_sigma=True, attention_resolutions="4",
                       num_head_channels=32, use_scale_shift_norm=True, resblock_updown=True,
                       use_new_attention_order=True, dropout=0.0)
    return near_start(filled(net))


def process(kd):
    return create_gaussian_diffusion(steps=1000, learn_sigma=True, noise_schedule="cosine",
                                     timestep_respacing=CHAIN, kd=kd)


def normal(stream, step, index, dtype):
    return th.from_numpy(Random(SEED, stream).normal(step, index, SHAPE)).to(dtype)


class Chance:
    """Stands in for torch's and Python's generators while a distillation runs."""

    def __init__(self, loader, dtype):
        self.loader, self.dtype = loader, dtype
        self.preparing, self.walk = False, 0
        self.step, self.rows = 0, list(range(BATCH))
        self.restarts = {}

    # Preparation: all rows are walked in one batch, so call k makes the step from state T' - k.
    def choices(self, candidates, k):
        ends = [1 + s for s in Random(SEED, "pool_state").integers(0, 0, k, 7)]
        assert set(ends) <= set(candidates)
        self.ends, self.walk = np.array(ends), 8
        return ends

    def sample(self, population, count):
        step = self.step
        self.rows = Random(SEED, "pool_choice").choice(step, len(population), count)
        return self.rows

    def random(self):
        return 0.5

    def randn(self, *shape, device=None):
        if self.preparing:
            return normal("pool_start", 0, range(shape[0]), self.dtype)
        if self.loader.choice == "iterative_distillation":
            rows = list(range(shape[0]))
            keys = [self.restarts.setdefault(row, -1) + 1 for row in rows]
        else:
            rows = [r for r in self.rows if self.loader.total_t[r] == 0]
            keys = [self.restarts.setdefault(row, 0) + 1 for row in rows]
        assert len(rows) == shape[0]
        self.restarts.update(zip(rows, keys))
        return th.cat([normal("pool_start", key, [row], self.dtype)
                       for row, key in zip(rows, keys)])

    def randn_like(self, x):
        if self.preparing:
            rows = np.nonzero(self.ends < self.walk)[0].tolist()
            noise = normal("pool_noise", self.walk, rows, self.dtype)
            self.walk -= 1
        else:
            noise = normal("pool_noise", self.step, range(TRAINING_NOISE, TRAINING_NOISE + BATCH),
                           self.dtype)
            self.step += 1
        assert noise.shape == x.shape
        return noise

    @contextlib.contextmanager
    def reigns(self):
        originals = th.randn, th.randn_like, train_util_kd.random
        th.randn, th.randn_like = self.randn, self.randn_like
        train_util_kd.random = types.SimpleNamespace(choices=self.choices, sample=self.sample,
                                                     random=self.random)
        try:
            yield
        finally:
            th.randn, th.randn_like, train_util_kd.random = originals


class Limited:
    """The authors' loader, which never ends, for STEPS batches."""

    def __init__(self, chance):
        self.chance, self.choice, self.times = chance, chance.loader.choice, []

    @property
    def iter(self):
        batches = self.chance.loader.iter
        for _ in range(STEPS):
            batch = next(batches)
            self.times.append(batch[2].tolist())
            yield batch
        self.restarts = sum(self.chance.restarts.values())
        next(batches)  # it writes a batch back when asked for the next one
        raise Finished


def with_log(diffusion, name):
    """`diffusion` whose losses of each step are kept."""
    log = {"mse": [], "vb": []}
    original = getattr(diffusion, name)

    def recording(*args, **kwargs):
        terms = original(*args, **kwargs)
        for key, values in log.items():
            values.append(short(terms[key].detach().mean()))
        return terms

    setattr(diffusion, name, recording)
    return log


def changes(now, start):
    return [[short(v, 7) for v in (d.norm(), *((d * th.from_numpy(fill(base + i, tuple(d.shape)))).sum()
                                            for base in (9000, 19000)))]
            for i, d in enumerate(a.detach().double() - b for a, b in zip(now, start))]


def numbers(trainer, start, log, times):
    return {**log, "t": times, "parameters": changes(trainer.mp_trainer.master_params, start),
            "ema": changes(trainer.ema_params[0], start)}


def common(student, diffusion, sampler):
    return dict(model=student, diffusion=diffusion, batch_size=BATCH, microbatch=-1, lr=LR,
                ema_rate=EMA, log_interval=10 ** 9, save_interval=10 ** 9, resume_checkpoint="",
                schedule_sampler=sampler, USE_LOG=False)


def networks(dtype):
    pair = network("1,2"), network("1,1")
    for net in pair:
        net.to(dtype).dtype = dtype
    return pair


def loader_of(choice, teacher, tempfile):
    return train_util_kd.KDTeacherLoader(
        teacher_diffusion=process(True), teacher_model=teacher.eval(),
        student_diffusion=process(False), class_cond=False, batch=BATCH, microbatch=-1,
        teacher_batch=10 ** 6, teacher_image_size=SIZE, clip_denoised=True, rank=0, world_size=1,
        tempfile=tempfile, choice=choice, prob=1.0, BATCH=RHO)


def distilled(choice, dtype, folder):
    teacher, student = networks(dtype)
    loader = loader_of(choice, teacher, os.path.join(folder, "pool.cache"))
    chance = Chance(loader, dtype)
    result = {}
    with everything_in(dtype), chance.reigns():
        if choice != "iterative_distillation":
            chance.preparing = True
            loader.generate()
            chance.preparing = False
        if choice == "dynamic_iterative_distillation":  # of which shuffled takes the first batch
            result["prepared"] = batch_set(loader)
        diffusion, limited = process(False), Limited(chance)
        log = with_log(diffusion, "training_losses_kd")
        start = [p.detach().double().clone() for p in student.parameters()]
        trainer = train_util_kd.KDTrainLoop(
            teacher_model=teacher, teacher_diffusion=loader.teacher_diffusion,
            teacher_batch_size=BATCH, class_cond=False, clip_denoised=True,
            teacher_image_size=SIZE, student_image_size=SIZE,
            teacher_loader=limited,
            **common(student.train(), diffusion, UniformSampler(diffusion)))
        with contextlib.suppress(Finished):
            trainer.run_loop()
    result.update(numbers(trainer, start, log, limited.times))
    if choice != "iterative_distillation":
        result["set"] = {**batch_set(loader), "restarts": limited.restarts}
    return result


def batch_set(loader):
    return {"state": loader.total_t.tolist(), "x": loader.total_x_t_1.double().clone()}


def images(index):
    """uint8 [n,C,S,S]: pixel j of image i is u's residue modulo 256."""
    j = np.arange(int(np.prod(SHAPE)), dtype=np.int64)
    rows = [((7919 * j + 104729 * i + 12345) % 1000003 % 256).reshape(SHAPE) for i in index]
    return np.stack(rows)


def minibatches(dtype):
    per_epoch = IMAGES // BATCH
    for step in range(STEPS):
        order = Random(SEED, "minibatch").choice(step // per_epoch, IMAGES, IMAGES)
        place = step % per_epoch * BATCH
        batch = images(order[place:place + BATCH])
        flip = Random(SEED, "augment").uniform(step, 0, BATCH) < 0.5
        batch = np.where(flip[:, None, None, None], batch[..., ::-1], batch)
        # The authors' image_datasets.py: float32, then the division.
        yield th.from_numpy(batch.astype(np.float32) / 127.5 - 1).to(dtype), {}
    raise Finished


class Times(UniformSampler):
    def __init__(self, diffusion):
        super().__init__(diffusion)
        self.times = []

    def sample(self, batch_size, device):
        step = len(self.times)
        self.times.append(Random(SEED, "timestep").integers(step, 0, batch_size,
                                                            self.diffusion.num_timesteps))
        return th.tensor(self.times[-1]), th.ones(batch_size)


def data_based(dtype, folder):
    _, student = networks(dtype)
    diffusion = process(False)
    sampler, log = Times(diffusion), with_log(diffusion, "training_losses")
    start = [p.detach().double().clone() for p in student.parameters()]
    original = th.randn_like
    th.randn_like = lambda x: normal("train_noise", len(sampler.times) - 1, range(BATCH), dtype)
    try:
        with everything_in(dtype):
            trainer = train_util.TrainLoop(data=minibatches(dtype),
                                           **common(student.train(), diffusion, sampler))
            with contextlib.suppress(Finished):
                trainer.run_loop()
    finally:
        th.randn_like = original
    return numbers(trainer, start, log, sampler.times)


def distance(a, b):
    """Largest relative error of a number, or ||a - b|| / ||b|| of changes (methods.cpp) or of a row."""
    if isinstance(b, dict):
        assert a["state"] == b["state"]
        return ((a["x"] - b["x"]).flatten(1).norm(dim=1) / b["x"].flatten(1).norm(dim=1)).max()
    if not isinstance(b[0], list):
        return max(abs(x - y) / abs(y) for x, y in zip(a, b))
    off = sum(1.5 * ((x[1] - y[1]) ** 2 + (x[2] - y[2]) ** 2) for x, y in zip(a, b))
    return np.sqrt(off / sum(y[0] ** 2 for y in b))


def twice(name, run, *args):
    with tempfile.TemporaryDirectory() as folder:
        f32 = run(*args, dtype=th.float32, folder=folder)
        f64 = exact(name, lambda: run(*args, dtype=th.float64, folder=folder))
    assert f32["t"] == f64["t"]
    for key in f64.keys() - {"t"}:
        roundings[f"{name}: {key}"] = float(distance(f32[key], f64[key]))
    return {**f64, **{key: {**f64[key], "x": packed(f64[key]["x"])}
                      for key in {"prepared", "set"} & set(f64)}}


logger.Logger.USE_LOG = False
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
_, student = networks(th.float32)
roundings = {}
METHODS = {"iterative": (distilled, "iterative_distillation"),
           "shuffled": (distilled, "shffled_iterative_distillation"),
           "dynamic": (distilled, "dynamic_iterative_distillation"),
           "data-based": (data_based,)}
golden, worst = over_paths(
    lambda: ({name: twice(name, *call) for name, call in METHODS.items()}, roundings))
for key, value in worst.items():
    name, what = key.split(": ")
    golden[name].setdefault("rounding", {})[what] = value
write("make_methods.py", {
    "settings": {"seed": SEED, "steps": STEPS, "batch": BATCH, "size": SIZE, "rho": RHO,
                 "chain": CHAIN, "lr": LR, "ema": EMA, "images": IMAGES,
                 "parameters": [name for name, _ in student.named_parameters()]}, **golden})
