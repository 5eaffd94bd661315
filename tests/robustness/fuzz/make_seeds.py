#!/usr/bin/env python3
"""Writes the corpora's hand-made seeds below corpus/ (what libFuzzer found is beside them, in found-*).

    python3 -m venv seeds && seeds/bin/pip install pillow==11.0.0 && seeds/bin/python make_seeds.py
"""

import gzip
import io
import json
import pathlib
import sqlite3
import struct
import tarfile
import zipfile

from PIL import Image

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]


def put(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def npy(descr, shape, data, version=1):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    start = 10 if version == 1 else 12
    text += " " * (-(start + len(text) + 1) % 64) + "\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + data


def npz(arrays, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in arrays.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def arrays():
    images = npy("|u1", (2, 4, 4, 3), bytes(range(96)))
    put("npz", "images", b"\0" + npz({"arr_0.npy": images}))
    put("npz", "deflated", b"\0" + npz({"arr_0.npy": images, "arr_1.npy": npy("<i8", (2,), bytes(16))},
                                       zipfile.ZIP_DEFLATED))
    square = struct.pack("<4d", 2, 0.5, 0.5, 1)
    put("npz", "statistics", b"\0" + npz({"mu.npy": npy("<f8", (2,), bytes(16)),
                                          "sigma.npy": npy("<f8", (2, 2), square)}))
    put("npz", "npy-images", b"\1" + images)
    put("npz", "npy-version-2", b"\1" + npy("<f4", (3,), bytes(12), version=2))
    put("npz", "npy-version-3", b"\1" + npy("<f2", (), bytes(2), version=3))

    header = struct.pack(">4B3I", 0, 0, 8, 3, 2, 4, 4)
    put("idx", "images", header + bytes(range(32)))
    put("idx", "labels", struct.pack(">4BI", 0, 0, 8, 1, 5) + b"\0\1\2\3\4")
    put("idx", "gzip", gzip.compress(header + bytes(range(32)), mtime=0))


def pictures():
    colour = Image.frombytes("RGB", (5, 3), bytes(range(45)))

    def encoded(image, kind, **options):
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    forms = {
        "grey": colour.convert("L"), "bits": colour.convert("1"), "palette": colour.quantize(4),
        "rgb": colour, "rgba": colour.convert("RGBA"), "grey-alpha": colour.convert("LA"),
        "grey-16": Image.frombytes("I;16", (3, 2), bytes(range(12))),
    }
    for name, image in forms.items():
        put("image", "png-" + name, b"\0" + encoded(image, "PNG"))
    put("image", "webp", b"\0" + encoded(colour, "WEBP", lossless=True))
    put("image", "gif", b"\0" + encoded(colour.quantize(4), "GIF"))
    put("image", "gif-interlaced-grey", b"\1" + encoded(colour.convert("L"), "GIF", interlace=True))
    put("image", "gif-animated", b"\0" + encoded(colour.quantize(4), "GIF", save_all=True, transparency=1,
                                                 append_images=[colour.rotate(180).quantize(4)]))
    put("image", "jpeg-rgb", b"\0" + encoded(colour, "JPEG"))
    put("image", "jpeg-grey", b"\1" + encoded(colour.convert("L"), "JPEG"))
    put("image", "jpeg-progressive", b"\0" + encoded(colour, "JPEG", progressive=True))
    put("image", "jpeg-cmyk", b"\0" + encoded(colour.convert("CMYK"), "JPEG"))


def documents():
    model = {"student": {"plugin": "dit", "version": "1", "params": {"hidden": 24, "depth": 1, "heads": 2}},
             "image": {"size": 16, "channels": 1},
             "diffusion": {"schedule": "linear", "steps": 1000, "beta_start": 0, "beta_end": 0,
                           "variance": "learned_range", "variance_range": 0.0}, "trained_steps": 10}
    put("json", "model", b"\0" + json.dumps(model).encode())
    manifest = {"stage": "train", "key": "00", "plugin": "dynamic", "determined_by": {"seed": "0"},
                "elapsed_s": 1.5, "steps": 10, "teacher_evaluations": 0, "peak_bytes": 1, "bytes": 8,
                "sha256": "0" * 64,
                "files": [{"name": "raw.safetensors", "bytes": 8, "sha256": "0" * 64}]}
    put("json", "manifest", b"\1" + json.dumps(manifest).encode())
    metric = {"name": "fid", "value": 9.5, "higher_is_better": False, "unit": "", "protocol": "p",
              "reference": "r", "sample_count": 64, "step": 10, "weights": "ema"}
    put("json", "metrics", b"\2" + json.dumps([metric]).encode())

    unet = {"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3,
            "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1,
            "norm_num_groups": 4, "attention_head_dim": 8}
    put("diffusers", "unet", b"\0" + json.dumps(unet).encode())
    scheduler = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear",
                 "beta_start": 0.0001, "beta_end": 0.02, "variance_type": "fixed_small"}
    put("diffusers", "scheduler", b"\1" + json.dumps(scheduler).encode())

    for name in ("quickstart", "table2", "figure4b"):
        text = (ROOT / "experiments" / "desk" / f"{name}.toml").read_text()
        put("experiment", name, "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    put("experiment", "overrides", (HERE / "corpus/experiment/quickstart").read_text() +
        "\n--set\ntrain.steps=10\nrow.dynamic.method.rho=0.1\nexperiment.title=A table")


def protobuf():
    """A GraphDef: one Const of two floats, and one of three values that repeat the last."""

    def field(number, content):
        return bytes([number << 3 | 2, len(content)]) + content

    def constant(name, dimension, content):
        shape = field(2, field(2, bytes([8, dimension])))
        tensor = b"\x08\x01" + shape + content
        value = field(5, field(1, b"value") + field(2, field(8, tensor)))
        return field(1, field(1, name) + field(2, b"Const") + value)

    put("graph", "content", constant(b"w", 2, field(4, struct.pack("<2f", 1, -2))))
    put("graph", "repeated", constant(b"b", 3, field(5, struct.pack("<f", 0.5))))


def archives():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {"results.sqlite": b"not one", "artifacts/train/00/manifest.json": b"{}"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    put("archive", "run", out.getvalue())

    source = sqlite3.connect(ROOT / "tests/fixtures/databases/v2.sqlite")
    copy = sqlite3.connect(":memory:")
    source.backup(copy)
    copy.execute("PRAGMA page_size = 512")
    copy.execute("VACUUM")
    put("database", "version-2", copy.serialize())


arrays()
pictures()
documents()
protobuf()
archives()
