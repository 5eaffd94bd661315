"""Writes bilinear.json: photographs of CelebA's size as JPEG, and the pixels that OpenCV makes of them and of patterns.

python3 make_bilinear.py
Needs opencv-python-headless and numpy (the versions that the file names). What the authors' code does with CelebA:
cv2.resize(cv2.imread(file), (64, 64)), its default INTER_LINEAR, and the channels turned round. With CelebA-HQ and FFHQ
it calls albumentations 0.4.3: SmallestMaxSize(256) and CenterCrop(256, 256), which are cropped() below.
"""
import base64
import json
import os

import cv2
import numpy as np

SIZES = [((218, 178), (64, 64)), ((1024, 1024), (256, 256)), ((300, 417), (256, 356)), ((512, 512), (256, 256)),
         ((33, 57), (64, 64)), ((9, 1), (4, 3)), ((64, 64), (64, 64))]


def picture(seed):
    """uint8 [218,178,3]: gradients, an ellipse and a little noise, so that every block of a JPEG has detail."""
    y, x = np.mgrid[0:218, 0:178].astype(np.float64)
    face = ((x - 89 - seed) / 52) ** 2 + ((y - 112) / 70) ** 2 < 1
    planes = [90 + 0.5 * y + 60 * face, 60 + 0.6 * x + 80 * face, 200 - 0.4 * (x + y) - 40 * face]
    noise = (x * x * (7 + seed) + y * y * 13 + x * y).astype(np.int64) % 23
    return np.clip(np.stack(planes, 2) + noise[..., None], 0, 255).astype(np.uint8)


def pattern(height, width):
    """uint8 [H,W,3] of A = (7y + 13x) mod 256, 255 - A, 3A mod 256."""
    y, x = np.mgrid[0:height, 0:width]
    a = (7 * y + 13 * x) % 256
    return np.stack([a, 255 - a, 3 * a % 256], 2).astype(np.uint8)


CROPPED = [(1024, 1024), (512, 512), (300, 417), (417, 300), (256, 256), (256, 333), (257, 256)]


def cropped(image):
    """SmallestMaxSize leaves out a scale of 1; Python's round() takes halves to even, as its py3round."""
    height, width = image.shape[:2]
    scale = 256 / float(min(height, width))
    if scale != 1.0:
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    top, left = (image.shape[0] - 256) // 2, (image.shape[1] - 256) // 2
    return image[top:top + 256, left:left + 256]


def planes(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def sums(small):
    weights = np.arange(small.size) % 97 + 1
    return {"sum": int(small.sum()), "weighted": int((small.ravel().astype(np.int64) * weights).sum()),
            "last": small[:, -1, -1].tolist()}


def main():
    golden = {"opencv": cv2.__version__, "jpeg": [], "sizes": [], "cropped": []}
    for seed in range(2):
        done, file = cv2.imencode(".jpg", picture(seed)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
        assert done
        small = cv2.resize(cv2.imdecode(file, cv2.IMREAD_COLOR), (64, 64))[:, :, ::-1]
        golden["jpeg"].append({"file": base64.b64encode(file.tobytes()).decode(),
                               "pixels": base64.b64encode(planes(small).tobytes()).decode()})
    for (height, width), (to_height, to_width) in SIZES:
        small = planes(cv2.resize(pattern(height, width), (to_width, to_height)))
        golden["sizes"].append({"from": [height, width], "to": [to_height, to_width], **sums(small)})
    for height, width in CROPPED:
        golden["cropped"].append({"from": [height, width], **sums(planes(cropped(pattern(height, width))))})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bilinear.json")
    with open(path, "w", encoding="ascii") as out:
        json.dump(golden, out, indent=1)
        out.write("\n")


main()
