"""The deterministic fill u(i, j) of u_fill.hpp, and how golden files store tensors in short."""
import numpy as np
import torch as th


def fill(i, shape, scale=1.0):
    """f64 scale * u(i, j) of u_fill.hpp at row-major element j."""
    j = np.arange(int(np.prod(shape)), dtype=np.int64)
    u = 2 * (((7919 * j + 104729 * i + 12345) % 1000003) / 1000003) - 1
    return scale * u.reshape(shape)


def filled(net):
    """`net` with every parameter from u(i, j): parameter_fill of u_fill.hpp; pos_embed stays."""
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


def numbers(tensor, stride):
    """Every `stride`-th element in row-major order, and the norm of all."""
    flat = tensor.detach().double().flatten()
    return {"stride": stride, "norm": float(f"{flat.norm().item():.8g}"),
            "values": [float(f"{v:.8g}") for v in flat[::stride].tolist()]}
