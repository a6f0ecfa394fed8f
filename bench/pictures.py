"""Writes the folders that the loaders are timed on: photographs as JPEG, and small PNG pictures, in ten classes each.

    venv/bin/pip install scikit-image        # for its photographs; not needed where the pictures are only read
    venv/bin/python bench/pictures.py --out pictures

jpeg/<class>/ gets crops of scikit-image's photographs at the size of many data sets, about 500x375; png/<class>/ the
first Fashion-MNIST pictures, 28x28 gray (Debian's package `dataset-fashion-mnist`). Which pixels they hold follows from
the number of the picture alone; the bytes of a JPEG file also depend on Pillow's encoder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import fashion_mnist

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "motorcycle", "retina", "rocket")
CLASSES = 10
WIDTH, HEIGHT = 500, 375
QUALITY = 90


def photographs() -> list[Image.Image]:
    """Return the photographs that come with scikit-image itself, so that nothing is downloaded."""
    from skimage import data

    arrays = [getattr(data, name)() for name in PHOTOGRAPHS if name != "motorcycle"]
    arrays.append(data.stereo_motorcycle()[0])
    return [Image.fromarray(array) for array in arrays]


def crop(photographs: list[Image.Image], number: int) -> Image.Image:
    """Return picture `number`: a random window of a photograph, 0.6 to 1 of the largest, in a size near 500x375."""
    which, scale, left, top, width, height, flip = np.random.Generator(np.random.Philox(key=number)).random(7)
    photograph = photographs[int(which * len(photographs))]
    size = round(WIDTH * (0.96 + 0.08 * width)), round(HEIGHT * (0.96 + 0.08 * height))
    largest = min(photograph.width / size[0], photograph.height / size[1]) * (0.6 + 0.4 * scale)
    x, y = left * (photograph.width - size[0] * largest), top * (photograph.height - size[1] * largest)
    box = (x, y, x + size[0] * largest, y + size[1] * largest)
    picture = photograph.resize(size, Image.Resampling.LANCZOS, box=box)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 0.5 else picture


def write_jpeg(out: Path, count: int) -> int:
    """Write `count` crops, each class as many; return their bytes."""
    given = photographs()
    total = 0
    for number in range(count):
        path = out / str(number % CLASSES) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop(given, number).save(path, quality=QUALITY)
        total += path.stat().st_size
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="gets jpeg/<class>/ and png/<class>/")
    parser.add_argument("--count", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--source", type=Path, default=fashion_mnist.SOURCE, help="folder of Fashion-MNIST's .gz files")
    options: Any = parser.parse_args()
    size = write_jpeg(options.out / "jpeg", options.count)
    print(f"{options.out / 'jpeg'}: {options.count} pictures, {size / options.count / 1024:.0f} KiB each")
    labels = list(range(CLASSES))
    count = fashion_mnist.write(options.source, "train", options.out / "png", labels, options.count // CLASSES)
    print(f"{options.out / 'png'}: {count} pictures")


if __name__ == "__main__":
    main()
