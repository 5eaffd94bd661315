"""Seeded weights and images for FID's Inception-v3, the same as tests/fixtures/inception.hpp."""
import numpy as np
import torch as th

from philox import Random

SEED = 5


def value(i, name, shape):
    """Parameter i of the state dict: normal numbers of a gain that suits ReLU (He et al. 2015)."""
    z = th.from_numpy(Random(SEED, "initialise").normal(i, [0], shape)[0])
    if len(shape) > 1:
        return z * np.sqrt(2 * shape[0] / np.prod(shape))
    if name.endswith("running_var"):
        return 1 + z * z / 4
    return z / 10 + (1 if name.endswith("bn.weight") else 0)


def state_dict(net):
    """Weights for a net like torchvision's, numbered in its order without the norms' counters."""
    state = net.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    return state | {name: value(i, name, tuple(state[name].shape)) for i, name in enumerate(names)}


def images(count, channels, height, width):
    """uint8 [n,C,H,W]: waves of another length and place in every image and channel, and tiles."""
    n, c, y, x = np.meshgrid(np.arange(count), np.arange(channels), np.arange(height),
                             np.arange(width), indexing="ij")
    waves = (x * (3 + 2 * c + n) + y * (5 - c + 2 * n) + 17 * n + 29 * c) * (1 + n)
    tiles = (x // 3 + y // 4 + n + c) % 2 * 90
    return th.from_numpy(((waves + tiles) % 256).astype(np.uint8))
