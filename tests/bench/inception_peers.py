#!/usr/bin/env python3
"""Times Inception features of pytorch-fid and torch-fidelity beside ours: the same images, weights,
machine and threads, in turns, so that whatever else the machine does meets all alike.

OMP_NUM_THREADS=2 python3 tests/bench/inception_peers.py build/tests/bench/bench-inception
Needs torch, torchvision, numpy, pytorch-fid and torch-fidelity. --rounds N (default 3), --batch N
(default 32), --side PIXELS (default 32). Prints images a second, best round, by the clock and by the
processor's time (which a busy machine disturbs less), and how many times pytorch-fid's that is.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

import torch as th  # noqa: E402
import torchvision  # noqa: E402
from pytorch_fid import inception as pytorch_fid  # noqa: E402
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402

from inception_weights import images, state_dict  # noqa: E402


def peers(batch):
    state = state_dict(torchvision.models.inception_v3(num_classes=1008, aux_logits=False,
                                                       weights=None, init_weights=False))
    pytorch_fid.load_state_dict_from_url = lambda url, progress: state
    fid = pytorch_fid.InceptionV3().eval()
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "weights.pth")
        th.save(state, file)
        fidelity = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"],
                                               feature_extractor_weights_path=file)
    return {"pytorch-fid": lambda: fid(batch.float() / 255), "torch-fidelity": lambda: fidelity(batch)}


def timed(call, count):
    """Images a second of the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def ours(program, batch, side):
    environment = os.environ | {"BENCH_BATCH": str(batch), "BENCH_SIDE": str(side)}
    out = subprocess.run([program, "--benchmark_filter=gemm/2048|features/adm",
                          "--benchmark_min_time=1", "--benchmark_format=json"],
                         env=environment, check=True, capture_output=True, text=True).stdout
    gemm, features = json.loads(out)["benchmarks"]
    seconds = {"ms": 1e-3}[features["time_unit"]]
    by_cpu = batch / (features["cpu_time"] * seconds)
    gemm_by_cpu = gemm["FLOP/s"] * gemm["real_time"] / gemm["cpu_time"]
    return ((features["best_images/s"], by_cpu),
            (features["share_of_gemm"], by_cpu * features["FLOP_an_image"] / gemm_by_cpu))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=32)
    options = parser.parse_args()

    calls = peers(images(options.batch, 3, options.side, options.side))
    best, share = {}, (0.0, 0.0)
    with th.no_grad():
        for call in calls.values():  # memory and oneDNN's kernels
            call()
        for _ in range(options.rounds):
            rates, shares = ours(options.program, options.batch, options.side)
            found = {"dkdm": rates}
            for name, call in calls.items():
                found[name] = timed(call, options.batch)
            for name, pair in found.items():
                best[name] = tuple(map(max, pair, best.get(name, pair)))
            share = tuple(map(max, shares, share))

    load = os.getloadavg()[0]
    print(f"batch {options.batch}, {options.side} px, {th.get_num_threads()} threads, load {load:.1f}")
    print(f"{'':16}{'images/s':>10}{'x':>7}{'images/CPU s':>14}{'x':>7}")
    base = best["pytorch-fid"]
    for name, (wall, cpu) in best.items():
        print(f"{name:16}{wall:10.2f}{wall / base[0]:7.2f}{cpu:14.2f}{cpu / base[1]:7.2f}")
    print(f"dkdm's share of the GEMM rate: {share[0]:.0%} by the clock, {share[1]:.0%} by CPU time")


main()
