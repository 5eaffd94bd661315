"""Writes python_sample.json: what Python's random.Random(seed).sample draws, and the authors' latent mixtures.

python3 make_python_sample.py [data/ of the authors' latent-diffusion folder]
Needs nothing but CPython (the version that the file names). With the folder it also makes the ten lists that the authors
ship (celebahq_mix.py and ffhq_mix.py) anew, and fails where one is not theirs to the byte.
"""
import hashlib
import json
import os
import platform
import random
import sys

SEEDS = [0, 1, 19650218, 2**32 - 1]
# On both sides of where a set takes the place of a pool: 21, and 21 + 4^ceil(log4(3k)) above k = 5.
SIZES = [(1, 0), (1, 1), (5, 5), (21, 5), (22, 5), (22, 6), (84, 6), (85, 6), (86, 6), (277, 84), (278, 84), (300, 85),
         (1045, 86), (1046, 86), (1000, 1000), (4096, 1), (65536, 300), (25000, 1250), (60000, 6000), (2**31, 40),
         (2**32 - 1, 40)]
SETS = [("celebahq", "celebahqtrain", "celebahq_train_baseline"), ("ffhq", "ffhqtrain", "ffhqtrain_baseline")]
TOTALS = {"celebahq": 25000, "ffhq": 60000}
FRACTIONS = [0.05, 0.1, 0.15, 0.2, 1]


def digest(values):
    return hashlib.sha256(",".join(map(str, values)).encode()).hexdigest()


def mixture(total, fraction):
    """Places of the real and of the synthetic images, in the order drawn."""
    generator = random.Random(0)
    count = round(total * fraction)
    return generator.sample(range(total), count), generator.sample(range(total), total - count)


def check_lists(folder):
    def names(file, prefix):
        with open(os.path.join(folder, file + ".txt"), encoding="ascii") as lines:
            return sorted(f"{prefix}/{line.strip()}" for line in lines)

    for name, real_list, synthetic_list in SETS:
        real, synthetic = names(real_list, name), names(synthetic_list, name + "_baseline")
        for fraction in FRACTIONS:
            own, other = mixture(TOTALS[name], fraction)
            text = "".join(line + "\n" for line in [real[i] for i in own] + [synthetic[i] for i in other])
            with open(os.path.join(folder, f"{synthetic_list}_{fraction}.txt"), encoding="ascii") as shipped:
                assert text == shipped.read(), (name, fraction)


def main():
    golden = {"python": platform.python_version(), "draws": [], "mixtures": []}
    for seed in SEEDS:
        generator = random.Random(seed)  # one stream
        for n, count in SIZES:
            values = generator.sample(range(n), count)
            golden["draws"].append({"seed": seed, "n": n, "count": count, "first": values[:4], "sha256": digest(values)})
    for name, total in TOTALS.items():
        for fraction in FRACTIONS:
            real, synthetic = mixture(total, fraction)
            golden["mixtures"].append({"set": name, "total": total, "fraction": fraction, "real": len(real),
                                       "first_real": real[:3], "first_synthetic": synthetic[:3],
                                       "sha256": digest(real + synthetic)})
    if len(sys.argv) > 1:
        check_lists(sys.argv[1])
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_sample.json")
    with open(path, "w", encoding="ascii") as out:
        json.dump(golden, out, indent=1)
        out.write("\n")


main()
