#!/usr/bin/env bash
# cv2.resize of 8-bit images with its default, INTER_LINEAR, does not round: it cuts bits off twice on the way. Every
# image that is made smaller or larger by a factor other than 1/2 or 1/4 comes out darker by 1/8 of a grey level on
# average, and 12 to 17 % of the values are one below those of INTER_LINEAR_EXACT, which rounds and has no bias. A set
# that was prepared by it (the paper's CelebA64, albumentations' SmallestMaxSize) and one that another library resized
# bilinearly so differ in their means although every pixel seems right within rounding.
# Exits 0 while that is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
  --target "$folder/packages" opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
PYTHONPATH=$folder/packages python3 - <<'PYTHON'
import sys

import cv2
import numpy as np

print("OpenCV", cv2.__version__)
print(f"{'from':>10}{'to':>10}{'INTER_LINEAR':>14}{'EXACT':>9}{'differ':>9}   mean error in grey levels; share of values")
generator = np.random.default_rng(0)
as_described = True
for source, target in (((218, 178), (64, 64)), ((300, 417), (256, 356)), ((64, 64), (299, 299))):
    linear, exact, differ = [], [], []
    for _ in range(20):
        image = generator.integers(0, 256, (*source, 3), dtype=np.uint8)
        size = target[::-1]
        real = cv2.resize(image.astype(np.float64), size)
        default = cv2.resize(image, size)
        rounded = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
        linear.append((default - real).mean())
        exact.append((rounded - real).mean())
        differ.append((default != rounded).mean())
        as_described &= bool((rounded.astype(int) - default).max() <= 1)
    errors = np.mean(linear), np.mean(exact), np.mean(differ)
    print(f"{'%dx%d' % source:>10}{'%dx%d' % target:>10}{errors[0]:14.4f}{errors[1]:9.4f}{errors[2]:9.3f}")
    as_described &= bool(abs(errors[0] + 0.125) < 0.01 and abs(errors[1]) < 0.005 and 0.1 < errors[2] < 0.2)
if not as_described:
    print("OpenCV does otherwise now")
sys.exit(not as_described)
PYTHON
