#!/usr/bin/env python3
"""What the evaluators that people use make of the same two image sets, through one network with seeded
weights (tests/golden/inception_weights.py): the figures of metrics/README.md.

python3 tests/bench/evaluator_differences.py
Needs torch, torchvision, numpy, pillow, pytorch-fid, torch-fidelity, torchmetrics and clean-fid. About two minutes.
"""
import importlib.metadata
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

import numpy as np  # noqa: E402
import torch as th  # noqa: E402
import torchvision  # noqa: E402
from cleanfid.resize import build_resizer  # noqa: E402
from pytorch_fid import inception as pytorch_fid  # noqa: E402
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torchmetrics.image.fid import NoTrainInceptionV3  # noqa: E402
from torchmetrics.image.inception import InceptionScore  # noqa: E402

from inception_weights import state_dict  # noqa: E402

COUNT = 32
th.set_num_threads(1)


def image_sets(side):
    """uint8 [n,3,side,side] twice: fine patterns, and the same after a 3 x 3 mean."""
    rng = np.random.RandomState(side)
    y, x = np.mgrid[0:side, 0:side] / side
    sets = np.zeros((COUNT, 3, side, side))
    for image in sets:
        for plane in image:
            for frequency in (1, 3, 9, 27, 81):
                if frequency < side / 3:
                    u, v, phase = rng.normal(size=3)
                    plane += np.sin(2 * np.pi * (frequency * (u * x + v * y) + phase))
    sharp = th.from_numpy(np.clip(127.5 + 50 * sets, 0, 255).astype(np.uint8))
    soft = th.nn.functional.avg_pool2d(sharp.double(), 3, 1, 1, count_include_pad=False)
    return sharp, soft.to(th.uint8)


def extractors():
    state = state_dict(torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None,
                                                       init_weights=False))
    pytorch_fid.load_state_dict_from_url = lambda url, progress: state
    net = pytorch_fid.InceptionV3().eval()
    bare = pytorch_fid.InceptionV3(resize_input=False, normalize_input=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "weights.pth")
        th.save(state, file)
        fidelity = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=file)
        torchmetrics = {antialias: NoTrainInceptionV3("inception", ["2048"], file, antialias=antialias)
                        for antialias in (True, False)}
    resize = build_resizer("clean")

    def clean(images):
        resized = np.stack([resize(image) for image in images.permute(0, 2, 3, 1).numpy()])
        return bare((th.from_numpy(resized).permute(0, 3, 1, 2).float() - 128) / 128)[0].flatten(1)

    return {"torch-fidelity": lambda x: fidelity(x)[0],
            "pytorch-fid": lambda x: net(x.float() / 255)[0].flatten(1),
            "torchmetrics (default)": lambda x: torchmetrics[True](x),
            "torchmetrics (antialias=False)": lambda x: torchmetrics[False](x),
            "clean-fid": clean}


def frechet(a, b):
    """In float64, by factors of the covariances: no matrix root, no jitter."""
    a, b = a.double(), b.double()
    distance = (a.mean(0) - b.mean(0)).square().sum()
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    return float(distance + a.square().sum() + b.square().sum() - 2 * th.linalg.svdvals(a @ b.T).sum())


def score_of_confident_logits():
    """IS of 100 samples in which a class is 200 below the others: its probability is 0 in float32."""
    logits = th.zeros(100, 4)
    logits[th.arange(100), th.arange(100) % 3] = 5
    logits[:, 3] = -200
    score = InceptionScore(feature=th.nn.Flatten())
    score.features = [logits]
    p = logits.softmax(1).numpy()
    with np.errstate(all="ignore"):
        adm = float(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0, keepdims=True))), 1))))
    return {"torch-fidelity": isc_features_to_metric(logits, splits=1)["inception_score_mean"],
            "torchmetrics": float(score.compute()[0]), "ADM's formula in float32": adm}


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in
                ("pytorch-fid", "torch-fidelity", "torchmetrics", "clean-fid", "torch", "pillow")))
with th.no_grad():
    for name, value in score_of_confident_logits().items():
        print(f"IS with a probability of 0: {name:28}{value:.6g}", flush=True)
    calls = extractors()
    for side in (32, 512):
        sharp, soft = image_sets(side)
        base = None
        for name, call in calls.items():
            features = [th.cat([call(part) for part in images.split(8)]) for images in (sharp, soft)]
            value = frechet(*features)
            base = base or value
            print(f"{side} px  {name:32}{value:12.4f}  {value / base - 1:+.2%}", flush=True)
