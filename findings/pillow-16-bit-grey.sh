#!/usr/bin/env bash
# Pillow opens a 16-bit grey PNG clipped, every other 16-bit PNG by its high bytes: Image.open(f).convert("RGB"),
# which is how guided-diffusion, pytorch-fid and torchvision load images, turns all greys from 255 of 65535 on
# (0.4 % of the range) into white. The same picture stored as 16-bit RGB or grey with alpha keeps its shades. An
# evaluation of 16-bit grey images so compares almost white ones, without a warning.
# Exits 0 while that is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
  --target "$folder/packages" pillow==13.0.0
cd "$folder"
PYTHONPATH=$folder/packages python3 - <<'PYTHON'
import struct
import sys
import warnings
import zlib

import PIL
from PIL import Image

warnings.simplefilter("error")  # it gives none


def png(colour_type, channels, value):
    """A 1 x 1 PNG of 16 bits: `value` in every channel but alpha, which is opaque."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    samples = [value] * (channels - (colour_type & 4) // 4) + [65535] * ((colour_type & 4) // 4)
    row = b"\0" + struct.pack(f">{channels}H", *samples)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))


print("Pillow", PIL.__version__)
print(f"{'16-bit value':>12}" + "".join(f"{name:>16}" for name in ("grey", "grey + alpha", "RGB", "RGBA")))
as_described = True
for value in (0, 100, 255, 256, 4096, 32768, 65535):
    seen = []
    for colour_type, channels in ((0, 1), (4, 2), (2, 3), (6, 4)):
        with open("image.png", "wb") as file:
            file.write(png(colour_type, channels, value))
        seen.append(Image.open("image.png").convert("RGB").getpixel((0, 0))[0])
    print(f"{value:12}" + "".join(f"{shade:16}" for shade in seen))
    as_described &= seen == [min(value, 255)] + [value >> 8] * 3
if not as_described:
    print("Pillow does otherwise now")
sys.exit(not as_described)
PYTHON
