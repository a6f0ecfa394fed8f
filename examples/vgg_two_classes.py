"""VGG16 from scratch on two kinds of pictures, as one would tell cats from dogs, at two learning rates.

    apt-get install dataset-fashion-mnist
    python examples/vgg_two_classes.py --out vgg               # about 8 minutes on two cores

600 pictures of trousers and 600 of bags (Fashion-MNIST's labels 1 and 8) at 64x64, a fifth of them for validation. With
Adam's usual rate of 1e-3 a network of sixteen layers without batch normalisation does not start to learn: after ten
steps its answers are the same for all pictures, to the last digits. With 1e-4 it tells the two kinds apart within the
first epoch. What `fastcnn train` says about either is printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from fashion_mnist import SOURCE, write

LABELS = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, required=True, help="gets the pictures, models and curves")
    parser.add_argument("--per-class", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1e-3])
    options: Any = parser.parse_args()
    for prefix, name, count in (("train", "data", options.per_class), ("t10k", "test", None)):
        write(options.source, prefix, options.out / name, list(LABELS), count)
    for rate in options.rates:
        print(f"\n{options.model}, learning rate {rate:g}", flush=True)
        command = [sys.executable, "-m", "fastcnn", "train", str(options.out / "data"), "--model", options.model]
        command += ["--image-size", "64", "--epochs", str(options.epochs), "--learning-rate", str(rate)]
        command += ["--schedule", "constant", "--test", str(options.out / "test")]
        command += ["--out", str(options.out / f"{options.model}-{rate:g}.safetensors")]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
