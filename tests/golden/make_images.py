"""Writes images.json: small PNG, JPEG, WebP and GIF files of every kind, and the RGB pixels that Pillow opens.

python3 make_images.py
Needs Pillow, numpy and simplejpeg (the versions that the file names). PNG and GIF files are written here by the
specification, since Pillow writes few of their kinds. What ADM's loader does: Image.open(file).convert("RGB").
"""
import base64
import importlib.metadata
import io
import json
import os
import struct
import zlib

import numpy as np
import simplejpeg
from PIL import Image, features

WIDTH, HEIGHT = 13, 9  # no multiple of a block, a byte of bits, or an interlacing step


def samples(channels, bits, seed):
    """Integers [H,W,channels] of `bits` bits with small and large steps between neighbours."""
    j = np.arange(HEIGHT * WIDTH * channels, dtype=np.int64)
    return ((j * j % 251 * 977 + seed * 131) % (1 << bits)).reshape(HEIGHT, WIDTH, channels)


def smooth(channels):
    """uint8 [H,W,channels]: gradients and an edge, which chroma subsampling blurs."""
    y, x = np.mgrid[0:19, 0:21]
    planes = [x * 255 // 20, y * 255 // 18, (x + y) * 255 // 38, np.where(x > 9, 230, 20)]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


# PNG ---------------------------------------------------------------------------------------------------

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_rows(pixels, bits):
    """Rows of [h,w,c] without a filter, first sample in the highest bits."""
    out = b""
    for row in pixels.reshape(pixels.shape[0], -1):
        if bits == 16:
            line = row.astype(">u2").tobytes()
        else:
            digits = "".join(format(int(value), f"0{bits}b") for value in row)
            digits += "0" * (-len(digits) % 8)
            line = bytes(int(digits[i:i + 8], 2) for i in range(0, len(digits), 8))
        out += b"\0" + line
    return out


def interlaced_rows(pixels, bits):
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = (pixels[y::down, x::right] for y, x, down, right in passes)
    return b"".join(packed_rows(part, bits) for part in parts if part.size)


def png(pixels, bits, colour_type, before=(), interlace=False):
    rows = interlaced_rows(pixels, bits) if interlace else packed_rows(pixels, bits)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour_type, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*each) for each in before) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def png_files():
    channels = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
    names = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "grey-alpha", RGBA: "rgba"}
    depths = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
    for colour_type, name in names.items():
        for bits in depths[colour_type]:
            pixels = samples(channels[colour_type], bits, colour_type + bits)
            before = []
            if colour_type == PALETTE:
                before.append((b"PLTE", samples(3, 8, bits).tobytes()[::8][:3 << bits].ljust(3 << bits, b"\x5a")))
            for interlace in (False, True):
                yield f"png {name} {bits}" + " interlaced" * interlace, png(pixels, bits, colour_type, before,
                                                                             interlace)
            if colour_type in (GREY, RGB, PALETTE):
                transparency = (bytes(range(1 << bits))[:200] if colour_type == PALETTE else
                                pixels[0, 0].astype(">u2").tobytes())
                yield f"png {name} {bits} tRNS", png(pixels, bits, colour_type,
                                                      before + [(b"tRNS", transparency)])
    rgb = samples(3, 8, 1)
    yield "png 16 bit grey below 256", png(samples(1, 8, 3), 16, GREY)
    yield "png gamma, chromaticities", png(rgb, 8, RGB, [(b"gAMA", struct.pack(">I", 100000)), (
        b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))])
    yield "png significant bits, background", png(samples(4, 8, 2), 8, RGBA, [
        (b"sBIT", bytes((5, 6, 5, 1))), (b"bKGD", struct.pack(">HHH", 255, 0, 255))])
    yield "png grey with significant bits", png(samples(1, 8, 2), 8, GREY, [(b"sBIT", b"\5")])
    yield "png suggested palette", png(rgb, 8, RGB, [(b"PLTE", bytes(range(48)))])
    yield "png sRGB", png(rgb, 8, RGB, [(b"sRGB", b"\0")])
    animated = [(b"acTL", struct.pack(">II", 2, 0)),
                (b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0))]
    first = png(rgb, 8, RGB, animated)
    second = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)) + chunk(
        b"fdAT", struct.pack(">I", 2) + zlib.compress(packed_rows(255 - rgb, 8)))
    yield "png animated", first[:-12] + second + first[-12:]


# JPEG --------------------------------------------------------------------------------------------------

def saved(mode, channels, **options):
    out = io.BytesIO()
    Image.fromarray(smooth(channels).squeeze(), mode).save(out, "JPEG", quality=80, **options)
    return out.getvalue()


def segments(data):
    """Offsets of marker segments before the scan: {marker: (start, end)}."""
    found, at = {}, 2
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2:at + 4])[0]
        found[data[at + 1]] = (at, at + 2 + length)
        at += 2 + length
    return found


def without(data, marker):
    start, end = segments(data)[marker]
    return data[:start] + data[end:]


def with_adobe_transform(data, transform):
    start, end = segments(data)[0xEE]
    return data[:end - 1] + bytes([transform]) + data[end:]


def jpeg_files():
    for progressive in (False, True):
        kind = "progressive " if progressive else ""
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            yield f"jpeg {kind}{subsampling}", saved("RGB", 3, subsampling=subsampling, progressive=progressive)
        yield f"jpeg {kind}grey", saved("L", 1, progressive=progressive)
        yield f"jpeg {kind}cmyk", saved("CMYK", 4, progressive=progressive)
    for name, subsampling in (("4:4:0", "440"), ("4:1:1", "411")):
        yield f"jpeg {name}", simplejpeg.encode_jpeg(smooth(3), 80, "RGB", subsampling)
    yield "jpeg rgb without transform", saved("RGB", 3, keep_rgb=True)
    yield "jpeg restart markers", saved("RGB", 3, restart_marker_rows=1)
    yield "jpeg optimised", saved("RGB", 3, optimize=True)
    cmyk = saved("CMYK", 4)
    yield "jpeg ycck", with_adobe_transform(cmyk, 2)
    yield "jpeg cmyk without Adobe's marker", without(cmyk, 0xEE)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: Image.open does not turn it back
    yield "jpeg Exif orientation", saved("RGB", 3, exif=exif.tobytes())
    plain = saved("RGB", 3)
    yield "jpeg without JFIF", without(plain, 0xE0)
    yield "jpeg JFIF 2.0", plain[:11] + b"\2" + plain[12:]
    yield "jpeg bytes after the end", plain + b"\0trailer"
    yield "jpeg comment, ICC profile", saved("RGB", 3, comment=b"a comment", icc_profile=b"\0" * 140)


# WebP --------------------------------------------------------------------------------------------------

def webp_files():
    for channels, mode in ((3, "RGB"), (4, "RGBA")):
        for name, options in (("lossless", {"lossless": True, "exact": True}), ("lossy", {"quality": 80})):
            out = io.BytesIO()
            Image.fromarray(smooth(channels), mode).save(out, "WEBP", **options)
            yield f"webp {name} {mode}", out.getvalue()
    out = io.BytesIO()
    first = Image.fromarray(smooth(3))
    first.save(out, "WEBP", lossless=True, save_all=True, append_images=[first.transpose(Image.FLIP_LEFT_RIGHT)])
    yield "webp animated", out.getvalue()


# GIF ---------------------------------------------------------------------------------------------------

def gif_palette(colours, seed):
    return samples(3, 8, seed).tobytes()[:3 * colours].ljust(3 * colours, b"\x5a")


def gif_image(indices, left=0, top=0, palette=b"", interlace=False, transparent=None):
    """One frame; its LZW stream clears its table before it would grow, so each code has nine bits."""
    height, width = indices.shape
    out = b""
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    flags = interlace << 6 | (0x80 | len(palette).bit_length() - 3 if palette else 0)
    out += b"," + struct.pack("<HHHHB", left, top, width, height, flags) + palette + b"\x08"
    order = [y for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(first, height, step)]
    rows = indices[order] if interlace else indices
    codes = []
    for place, value in enumerate(rows.flatten()):
        codes += [256, int(value)] if place % 200 == 0 else [int(value)]
    number = sum(code << 9 * place for place, code in enumerate(codes + [257]))
    data = number.to_bytes((9 * len(codes) + 9 + 7) // 8, "little")
    blocks = (data[at:at + 255] for at in range(0, len(data), 255))
    return out + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(*images, palette=b"", size=(WIDTH, HEIGHT), version=b"89a"):
    flags = 0x80 | len(palette).bit_length() - 3 if palette else 0
    return b"GIF" + version + struct.pack("<HHBBB", *size, flags, 0, 0) + palette + b"".join(images) + b";"


def gif_files():
    wide, four = samples(1, 8, 5).squeeze(), samples(1, 2, 5).squeeze()
    colours, few = gif_palette(256, 1), gif_palette(4, 2)
    yield "gif 256 colours", gif(gif_image(wide), palette=colours)
    yield "gif 87a", gif(gif_image(wide), palette=colours, version=b"87a")
    yield "gif 4 colours", gif(gif_image(four), palette=few)
    yield "gif index behind the palette", gif(gif_image(wide), palette=few)
    yield "gif interlaced", gif(gif_image(wide, interlace=True), palette=colours)
    yield "gif local palette", gif(gif_image(four, palette=few))
    yield "gif local over global palette", gif(gif_image(four, palette=few), palette=colours)
    yield "gif without palette", gif(gif_image(wide))
    greys = bytes(value for index in range(256) for value in (index, index, index))
    yield "gif palette of greys", gif(gif_image(wide), palette=greys)
    # Not: local greys over a global palette, by which Pillow 13 colours them.
    yield "gif inverted greys", gif(gif_image(wide), palette=greys[::-1])
    yield "gif transparent", gif(gif_image(wide, transparent=7), palette=colours)
    yield "gif frame within its screen", gif(gif_image(wide, 2, 3), palette=colours, size=(20, 17))
    yield "gif transparent frame within its screen", gif(gif_image(wide, 2, 3, transparent=9), palette=colours,
                                                          size=(20, 17))
    yield "gif frame beyond its screen", gif(gif_image(wide, 2, 3), palette=colours, size=(5, 4))
    yield "gif animated", gif(gif_image(wide), gif_image(255 - wide), palette=colours)
    comment = b"\x21\xfe\x03abc\0\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    yield "gif comment, application block", gif(comment + gif_image(wide), palette=colours)
    yield "gif without a trailer", gif(gif_image(wide), palette=colours)[:-1]
    saved_gif = io.BytesIO()
    Image.fromarray(smooth(3)).quantize(200).save(saved_gif, "GIF")
    yield "gif by Pillow", saved_gif.getvalue()


def main():
    cases = []
    for files in (png_files, jpeg_files, webp_files, gif_files):
        for name, data in files():
            image = Image.open(io.BytesIO(data))
            # uint8 [H,W,3], and [H,W] as convert("L") gives it.
            cases.append({"name": name, "mode": image.mode, "size": [image.height, image.width],
                          "file": base64.b64encode(data).decode(),
                          "rgb": base64.b64encode(image.convert("RGB").tobytes()).decode(),
                          "grey": base64.b64encode(image.convert("L").tobytes()).decode()})
    libraries = ", ".join(f"{name} {features.version(name)}" for name in ("libjpeg_turbo", "webp", "zlib"))
    content = {"source": ", ".join(f"{name} {importlib.metadata.version(name)}"
                                   for name in ("pillow", "numpy", "simplejpeg")) + " (" + libraries + ")",
               "made_by": "tests/golden/make_images.py", "images": cases}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images.json")
    with open(path, "w") as file:
        json.dump(content, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
