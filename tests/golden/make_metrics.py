"""Writes metrics.json: what pytorch-fid, torch-fidelity and numpy make of features from the fill.

python3 make_metrics.py
Needs numpy, scipy, mpmath, torch, pytorch-fid and torch-fidelity (the versions that the file names). Features
are float32: offset + scale * u(i, j)^2 in float64 before the cast.
"""
import importlib.metadata
import json
import os

import mpmath as mp
import numpy as np
import torch as th
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity import metric_fid, metric_isc, metric_prc

from fill import fill

th.set_num_threads(1)
mp.mp.dps = 50


def squares(i, rows, columns, offset, scale):
    return (offset + scale * fill(i, (rows, columns)) ** 2).astype(np.float32)


def moments(x):
    """Mean, and rows whose products make the covariance, to 50 digits."""
    rows = mp.matrix(x.astype(np.float64).tolist())
    mean = [mp.fsum(rows[:, j]) / rows.rows for j in range(rows.cols)]
    for i in range(rows.rows):
        for j in range(rows.cols):
            rows[i, j] -= mean[j]
    return mean, rows / mp.sqrt(rows.rows - 1)


def exact_frechet(a, b):
    """The product's eigenvalues as those of B S_A B^T, or of L^T S_B L where B has more rows."""
    (mean_a, rows_a), (mean_b, rows_b) = moments(a), moments(b)
    covariance = rows_a.T * rows_a
    if rows_b.rows > rows_b.cols:
        factor = mp.cholesky(covariance)
        product = factor.T * (rows_b.T * rows_b) * factor
    else:
        product = rows_b * covariance * rows_b.T
    values = mp.eigsy(product, eigvals_only=True)
    return float(mp.fsum((x - y) ** 2 for x, y in zip(mean_a, mean_b)) +
                 mp.fsum(x ** 2 for x in rows_a) + mp.fsum(x ** 2 for x in rows_b) -
                 2 * mp.fsum(mp.sqrt(max(x, 0)) for x in values))


def frechet(a, b):
    s, t = (metric_fid.fid_features_to_statistics(th.from_numpy(x)) for x in (a, b))
    double = [(np.mean(x.astype(np.float64), axis=0), np.cov(x.astype(np.float64), rowvar=False))
              for x in (a, b)]
    return {"exact": exact_frechet(a, b),
            "torch-fidelity": metric_fid.fid_statistics_to_metric(s, t, False)[
                metric_fid.KEY_METRIC_FID],
            "pytorch-fid": float(calculate_frechet_distance(*double[0], *double[1]))}


def brute_force(reference, samples, k):
    """The definition, in float64."""
    def distances(a, b):
        return np.stack([((row - b) ** 2).sum(1) for row in a])

    reference, samples = reference.astype(np.float64), samples.astype(np.float64)
    radii = [np.sort(distances(x, x), axis=1)[:, k] for x in (reference, samples)]
    cross = distances(samples, reference)
    return {"precision": float((cross <= radii[0]).any(1).mean()),
            "recall": float((cross.T <= radii[1]).any(1).mean()),
            "reference_radii_sum": float(radii[0].sum()), "sample_radii_sum": float(radii[1].sum())}


def precision_recall(reference, samples, k):
    peer = metric_prc.calculate_precision_recall_full(th.from_numpy(samples),
                                                      th.from_numpy(reference), k)
    return {"k": k, "numpy": brute_force(reference, samples, k),
            "torch-fidelity": {"precision": peer[0], "recall": peer[1]}}


reference, samples = squares(7010, 400, 24, 0, 1), squares(7011, 300, 24, 0.1, 1.1)
few = squares(7012, 15, 24, 0, 1)
# Equals of the other side, equals among themselves, and a set where most distances are ties.
repeated = samples.copy()
repeated[:20] = reference[:20]
repeated[20:26] = repeated[20]
coarse = [np.round(4 * x[:, :6]) / 4 for x in (reference, samples)]
isc = metric_isc.isc_features_to_metric(th.from_numpy(squares(7013, 305, 10, 0, 6)), splits=10)

result = {
    "script": "make_metrics.py",
    **{name: importlib.metadata.version(name)
       for name in ("numpy", "scipy", "torch", "pytorch-fid", "torch-fidelity")},
    "frechet": frechet(reference, samples),
    "frechet_few": frechet(reference, few),
    "precision_recall": [precision_recall(reference, samples, 3),
                         precision_recall(reference, repeated, 3),
                         precision_recall(reference, repeated, 5),
                         precision_recall(*coarse, 3)],
    "inception_score": {"mean": isc[metric_isc.KEY_METRIC_ISC_MEAN],
                        "deviation": isc[metric_isc.KEY_METRIC_ISC_STD]},
    "float32_mean": [float(x) for x in squares(7014, 20000, 5, 0.3, 0.4).mean(axis=0)],
}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "metrics.json"), "w") as f:
    json.dump(result, f, indent=1)
    f.write("\n")
