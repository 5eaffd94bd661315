#!/usr/bin/env bash
# Pillow colours a GIF's pixels by the wrong palette where a frame's own (local) palette is the ramp of greys
# (entry i is i, i, i) and the file's global palette has colours: the frame is read as grey indices and then given
# the global palette, so greys come out as colours. By GIF89a a local palette replaces the global one for its frame,
# as it does in Pillow too when any entry of it is no such grey. Loaders by Image.open(f).convert("RGB")
# (guided-diffusion, pytorch-fid, torchvision) then see another picture, without a warning.
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

import PIL
from PIL import Image

warnings.simplefilter("error")  # it gives none

GLOBAL = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0])  # red, green, blue, yellow
RAMP = bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])               # entry i is (i, i, i)
OTHER = bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 9, 9, 9])              # greys as well, but not that ramp


def gif(local):
    """A 4 x 1 GIF of the indices 0 to 3 with the global palette and, unless empty, a local one (2 bits each)."""
    # LZW: clear code, the four indices and the end code, 3 bits each, least significant first.
    bits = sum(code << 3 * i for i, code in enumerate((4, 0, 1, 2)))
    # After the clear code the table grows by one entry for each index but the first: the last codes have 4 bits.
    bits |= 3 << 12
    bits |= 5 << 16
    data = bits.to_bytes(3, "little")
    flags = 0x81 if local else 0
    return (b"GIF89a" + struct.pack("<HHBBB", 4, 1, 0x81, 0, 0) + GLOBAL + b"," +
            struct.pack("<HHHHB", 0, 0, 4, 1, flags) + local + b"\x02" + bytes([len(data)]) + data + b"\0;")


def pixels(local):
    with open("image.gif", "wb") as file:
        file.write(gif(local))
    with Image.open("image.gif") as image:
        rgb = image.convert("RGB")
    return [rgb.getpixel((x, 0)) for x in range(4)]


def colours(palette):
    return [tuple(palette[3 * i:3 * i + 3]) for i in range(4)]


print("Pillow", PIL.__version__)
as_described = True
for name, local, palette in (("no local palette", b"", GLOBAL), ("local greys 0 1 2 9", OTHER, OTHER),
                             ("local greys 0 1 2 3", RAMP, RAMP)):
    seen = pixels(local)
    right = seen == colours(palette)
    print(f"{name:20} {'right' if right else 'wrong'}: {seen}")
    as_described &= right == (local != RAMP)
as_described &= pixels(RAMP) == colours(GLOBAL)
if not as_described:
    print("Pillow does otherwise now")
sys.exit(not as_described)
PYTHON
