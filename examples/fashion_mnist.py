"""Write the Fashion-MNIST pictures of Debian's package `dataset-fashion-mnist` as folders of PNG files.

    apt-get install dataset-fashion-mnist
    python examples/fashion_mnist.py --out fashion                       # all ten classes: fashion/data, fashion/test
    fastcnn train fashion/data --model resnet18 --image-size 32 --epochs 3 --out fashion/resnet18.safetensors
    python examples/fashion_mnist.py --out six --labels 0 1 2 3 4 5 --per-class 600
    fastcnn train six/data --model resnet50-seed --image-size 64 --epochs 5 --out six/resnet50.safetensors

Xiao, Rasul and Vollgraf 2017: 60,000 training and 10,000 test pictures, 28x28 grey, ten balanced classes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "0-t-shirt",
    "1-trouser",
    "2-pullover",
    "3-dress",
    "4-coat",
    "5-sandal",
    "6-shirt",
    "7-sneaker",
    "8-bag",
    "9-ankle-boot",
)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of a gzipped IDX file of bytes: images [N,28,28] or labels [N]."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def write(source: Path, prefix: str, out: Path, labels: list[int], per_class: int | None) -> int:
    """Write the first `per_class` pictures of each label to out/<class>/<index>.png; return how many."""
    images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
    given = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
    count = 0
    for label in labels:
        folder = out / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(given == label)[:per_class]:
            Image.fromarray(images[index]).save(folder / f"{index:05d}.png")
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, required=True, help="gets data/<class>/ and test/<class>/")
    parser.add_argument("--labels", type=int, nargs="+", choices=range(10), default=list(range(10)), metavar="0..9")
    parser.add_argument("--per-class", type=int, help="pictures of each class; all of them by default")
    options: Any = parser.parse_args()
    for prefix, name in (("train", "data"), ("t10k", "test")):
        count = write(options.source, prefix, options.out / name, options.labels, options.per_class)
        print(f"{options.out / name}: {count} pictures of {len(options.labels)} classes")


if __name__ == "__main__":
    main()
