"""Writes inception.json: features of FID's Inception-v3 with seeded weights and images resized by
each evaluator's rule, from the Python packages pytorch-fid and torch-fidelity and from Pillow.

python3 make_inception.py
Needs torch, torchvision, numpy, Pillow, pytorch-fid, torch-fidelity, and tensorboard for TensorFlow's
protocol buffers. About a minute, 1 GB.
"""
import hashlib
import json
import os
import tempfile
from importlib.metadata import version

import numpy as np
import torch as th
import torch.nn.functional as F
import torchvision
from PIL import Image
from pytorch_fid import inception as pytorch_fid
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch_fidelity import feature_extractor_inceptionv3 as torch_fidelity
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from fill import numbers
from inception_weights import images, state_dict

SIDE = 299
# Up and down, both sides alike and not, fewer pixels than a kernel has, and no resizing.
RESIZED = ((2, 3, 32, 32), (1, 3, 2, 1), (2, 1, 28, 28), (1, 3, 64, 48), (1, 3, 299, 299),
           (1, 3, 400, 700))


def as_tensorflow(x):
    x = interpolate_bilinear_2d_like_tensorflow1x(x.float(), size=(SIDE, SIDE), align_corners=False)
    return (x - 128) / 128


def as_pytorch_fid(x):
    return 2 * F.interpolate(x.float() / 255, size=(SIDE, SIDE), mode="bilinear",
                             align_corners=False) - 1


def as_clean(x):
    def plane(p):
        resized = Image.fromarray(p.numpy().astype(np.float32)).resize((SIDE, SIDE), Image.BICUBIC)
        return np.asarray(resized).clip(0, 255)
    resized = np.stack([np.stack([plane(p) for p in image]) for image in x])
    return (th.from_numpy(resized) - 128) / 128


RULES = {"adm": as_tensorflow, "pytorch-fid": as_pytorch_fid, "torch-fidelity": as_tensorflow,
         "clean": as_clean}


def resized(shape):
    x = images(*shape)
    x = x.expand(-1, 3, -1, -1) if shape[1] == 1 else x
    return {"shape": shape} | {rule: numbers(RULES[rule](x), 2503) for rule in RULES}


def network():
    """Torchvision's with the sizes of FID's: its state dict has pytorch-fid's names and order."""
    return torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None,
                                           init_weights=False)


class Hook:
    def __init__(self, module):
        module.register_forward_hook(lambda module, inputs, output: setattr(self, "output", output))

    def spatial(self):
        """ADM's mixed_6/conv:0: NHWC, the first seven channels."""
        return self.output.permute(0, 2, 3, 1)[..., :7].flatten(1)


def of_pytorch_fid(state, x):
    pytorch_fid.load_state_dict_from_url = lambda url, progress: state
    net = pytorch_fid.InceptionV3().eval()
    mixed_6d = Hook(net.blocks[2][6].branch1x1)
    pooled = net(x.float() / 255)[0].flatten(1)
    return {"pooled": pooled, "spatial": mixed_6d.spatial(),
            "logits": pooled @ state["fc.weight"].T}


def of_torch_fidelity(state, x):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "weights.pth")
        th.save(state, file)
        net = torch_fidelity.FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
    mixed_6d = Hook(net.Mixed_6d.branch1x1)
    pooled, logits = net(x)
    return {"pooled": pooled, "spatial": mixed_6d.spatial(), "logits": logits}


def features(found):
    spatial = found["spatial"]
    return {name: numbers(value, 31) for name, value in found.items()} | {
        # Row, column, channel and the value there: the order of what numbers() flattens.
        "spatial_at": [[h, w, c, float(f"{spatial[1, (h * 17 + w) * 7 + c].item():.8g}")]
                       for h, w, c in ((0, 0, 0), (0, 0, 6), (0, 1, 0), (1, 0, 0), (3, 11, 2),
                                       (11, 3, 2), (16, 16, 6))]}


def layout(state):
    lines = "".join(" ".join([name, *map(str, p.shape)]) + "\n" for name, p in state.items()
                    if not name.endswith("num_batches_tracked"))
    return hashlib.sha256(lines.encode()).hexdigest()


def graph():
    """A GraphDef with a constant of every kind that the reader knows, and nodes that it leaves out."""
    made = GraphDef()
    made.versions.producer = 8

    def node(name, op="Const"):
        added = made.node.add(name=name, op=op)
        added.attr["dtype"].type = 1
        return added

    def constant(name, dtype, *shape):
        tensor = node(name).attr["value"].tensor
        tensor.dtype = dtype
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        return tensor

    node("input", "Placeholder")
    raw = np.array([[0.5, -1.25, 3], [4, 5, -6]], "<f4")
    constant("part/raw", 1, 2, 3).tensor_content = raw.tobytes()
    constant("listed", 1, 4).float_val.extend([1, 2, 3, 4.5])
    constant("repeated", 1, 2, 2).float_val.append(7.5)
    constant("scalar", 1).float_val.append(-2)
    constant("empty", 1, 0)
    constant("double", 2, 2).double_val.extend([1e300, -1])
    constant("raw double", 2, 1).tensor_content = np.array([0.1], "<f8").tobytes()
    constant("whole", 3, 2).int_val.extend([1, 2])
    node("sum", "Add").input.extend(["part/raw", "scalar"])
    return made.SerializeToString(deterministic=True).hex()


with th.no_grad():
    state = state_dict(network())
    golden = {
        "source": ", ".join(f"{name} {version(name).split('+')[0]}" for name in
                            ("pytorch-fid", "torch-fidelity", "torchvision", "torch", "pillow")),
        "made_by": "tests/golden/make_inception.py",
        "layout": layout(state),
        "graph": graph(),
        "resized": [resized(shape) for shape in RESIZED],
        "images": [3, 3, 32, 32],
        "features": {"pytorch-fid": features(of_pytorch_fid(state, images(3, 3, 32, 32))),
                     "torch-fidelity": features(of_torch_fidelity(state, images(3, 3, 32, 32)))}}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inception.json")
with open(path, "w") as file:
    json.dump(golden, file, separators=(",", ":"))
    file.write("\n")
print(path, os.path.getsize(path), "bytes")
