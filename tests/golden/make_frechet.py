"""Writes frechet.json: Fréchet distances of small Gaussians to 50 digits.

python3 make_frechet.py
Needs mpmath. A covariance is F F^T / 64 for a factor F of integers (of multiples of 2^-k, k <= 20,
where sides are nearly equal), so float64 holds it exactly and a rank is what it says. The trace of the
root is taken twice, from the singular values of F1^T F2 and, where that is not singular, from the
eigenvalues of the product.
"""
import json
import os

import mpmath as mp

mp.mp.dps = 80


def u(i, j):
    """u_fill.hpp's fill, as an exact fraction."""
    return mp.mpf(2 * ((7919 * j + 104729 * i + 12345) % 1000003) - 1000003) / 1000003


def factor(i, rows, columns):
    """Integers of -7 … 7; squared before they are rounded, to break the fill's linearity."""
    return [[int(mp.nint(7 * u(i, r * columns + c) * abs(u(i + 1, c * rows + r)))) + (r == c) * 3
             for c in range(columns)] for r in range(rows)]


def distance(a, b):
    means = mp.fsum((mp.mpf(x) - mp.mpf(y)) ** 2 for x, y in zip(a["mean"], b["mean"]))
    f, g = mp.matrix(a["factor"]), mp.matrix(b["factor"])
    traces = mp.fsum(x ** 2 for x in list(f) + list(g)) / 64
    cross = f.T * g
    root = mp.fsum(mp.svd_r(cross, compute_uv=False)) / 64
    size = f.rows
    if f.cols >= size and g.cols >= size:
        product = (f * f.T / 64) * (g * g.T / 64)
        values = mp.eig(product, left=False, right=False) if size > 1 else [product[0]]
        other = mp.fsum(mp.sqrt(mp.re(v)) for v in values)
        assert abs(other - root) < mp.mpf(10) ** -50 * (1 + root), (other, root)
    return {"distance": mp.nstr(means + traces - 2 * root, 50), "traces": float(traces)}


def side(i, rows, columns, mean=True):
    return {"mean": [float(mp.nint(16 * u(i + 2, 3 * r))) / 32 * mean for r in range(rows)],
            "factor": factor(i, rows, columns)}


def moved(original, step):
    """One entry moved by `step`, a power of two."""
    f = [row[:] for row in original["factor"]]
    f[0][0] += step
    return {"mean": original["mean"], "factor": f}


def stretched(original, exponents):
    return {"mean": original["mean"],
            "factor": [[x * 2.0 ** e for x in row] for row, e in zip(original["factor"], exponents)]}


cases = []


def case(name, a, b):
    cases.append({"name": name, "a": a, "b": b, **distance(a, b)})


for size in range(1, 13):
    case(f"random, {size}", side(10 * size, size, size + 3), side(10 * size + 5, size, size + 2))
for size, first, second in ((8, 3, 11), (8, 11, 3), (8, 3, 4), (12, 5, 5), (6, 1, 1), (12, 1, 12)):
    case(f"ranks {first} and {second} of {size}", side(200 + size + first, size, first),
         side(300 + size + second, size, second))
flat = side(400, 9, 4)
case("rank 4 of 9, one subspace", flat,
     {"mean": flat["mean"], "factor": [[2 * r[0], r[1] + r[2], r[2], r[3] - r[0]]
                                       for r in flat["factor"]]})
case("orthogonal subspaces", {"mean": [0.0] * 4, "factor": [[3, 1], [1, 2], [0, 0], [0, 0]]},
     {"mean": [0.5] * 4, "factor": [[0, 0], [0, 0], [2, 1], [1, 5]]})
case("one side without variance", side(410, 5, 7), {"mean": [1.0] * 5, "factor": [[0]] * 5})
near = side(500, 10, 12)
for exponent in (4, 8, 12, 16, 20):
    case(f"nearly equal, 2^-{exponent}", near, moved(near, 2.0 ** -exponent))
few = side(520, 10, 4)
for exponent in (8, 16):
    case(f"nearly equal, rank 4 of 10, 2^-{exponent}", few, moved(few, 2.0 ** -exponent))
scales = [3 * r - 12 for r in range(9)]
wide = side(600, 9, 10, mean=False), side(605, 9, 12, mean=False)
case("scales 2^-12 to 2^12, alike", stretched(wide[0], scales), stretched(wide[1], scales))
case("scales 2^-12 to 2^12, opposite", stretched(wide[0], scales), stretched(wide[1], scales[::-1]))
case("one side 2^20 times the other", stretched(wide[0], [20] * 9), wide[1])

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "frechet.json")
with open(out, "w") as f:
    f.write(json.dumps({"script": "make_frechet.py", "mpmath": mp.__version__, "cases": cases})
            .replace('{"name"', '\n{"name"') + "\n")
