"""Record what Keras computes, for `compare_keras.py`: logits, gradients, training, losses, metrics and behaviours.

    python bench/peers/keras_parity.py --out tests/vectors/keras_parity     # keras 3.15.1, tensorflow-cpu 2.21, pillow,
                                                                            # scipy, h5py
    python bench/peers/keras_parity.py gradients --out whole --samples 0    # every entry of ResNet50's: 250 MB

Networks run in float32 and in float64, so that the first one's rounding is known. Weights and data follow from counters
(`seeded.py`) and are not stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import parity_behaviours
import parity_networks as networks
import parity_values
import tensorflow as tf
from vectors import pack, sample_indices

SAMPLES = 24  # entries of each gradient of ResNet50
WEIGHTS = networks.WEIGHTS
PRECISIONS = ("float32", "float64")
ALL = 1 << 40


def precision(name: str) -> None:
    """Build and run what follows in that type."""
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    keras.utils.clear_session()


def gradients(model: Any, loss: Any, x: Any, y: Any) -> tuple[float, dict[str, Any]]:
    """Return the loss with penalties and its gradients by path, of one batch in training."""

    @tf.function(jit_compile=False)
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            total = loss(y, model(x, training=True)) + sum(model.losses)
        return total, tape.gradient(total, [weight.value for weight in model.trainable_weights])

    total, found = step(tf.convert_to_tensor(x, keras.config.floatx()))
    values = [np.asarray(value, np.float64) for value in found]
    return float(total), {weight.path: value for weight, value in zip(model.trainable_weights, values, strict=True)}


def logits() -> dict[str, Any]:
    """Return those of two pictures, of all applications in both precisions."""
    arrays: dict[str, Any] = {}
    for kind in PRECISIONS:
        for name in networks.APPLICATIONS:
            precision(kind)
            found = networks.application(keras, name).predict(networks.application_data(2)[0], verbose=0)
            arrays[f"{name}/{kind}"] = np.asarray(found, kind)
            progress(f"{name} {kind}")
    return arrays


def all_gradients(samples: int) -> dict[str, Any]:
    """Return those of the network of all layers, and samples of ResNet50's."""
    arrays: dict[str, Any] = {}
    runs: dict[str, list[Any]] = {"layers": [], "resnet": []}
    for kind in PRECISIONS:
        precision(kind)
        smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
        total, found = gradients(networks.all_layers(keras), smoothed, *networks.all_layers_data())
        arrays[f"layers_loss/{kind}"] = np.float64(total)
        runs["layers"].append(found)
        precision(kind)
        sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        resnet = networks.application(keras, "ResNet50")
        total, found = gradients(resnet, sparse, *networks.application_data(networks.BATCH))
        arrays[f"resnet_loss/{kind}"] = np.float64(total)
        runs["resnet"].append(found)
        progress(f"gradients {kind}")
    arrays |= pack("layers_grads", runs["layers"][1], runs["layers"][:1], ALL)
    arrays |= pack("resnet_grads", runs["resnet"][1], runs["resnet"][:1], samples)
    return arrays | {"samples": np.int64(samples)}


def training() -> dict[str, Any]:
    """Return losses, moving statistics and some weights of all ways of training, in both precisions."""
    arrays: dict[str, Any] = {"cases": np.array(networks.training_cases())}
    for kind in PRECISIONS:
        rows: dict[str, list[Any]] = {"loss": [], "moving": [], "weights": []}
        number = float if kind == "float32" else np.float64
        for case in networks.training_cases():
            precision(kind)
            run = networks.train(keras, case, number, jit_compile=False)
            moving, weights = networks.flat(run)
            rows["loss"].append(run["loss"])
            rows["moving"].append(moving)
            rows["weights"].append(weights[sample_indices(weights.size, WEIGHTS)])
            progress(f"{case} {kind}")
        arrays |= {f"{name}/{kind}": np.stack(values) for name, values in rows.items()}
    return arrays


def values() -> dict[str, Any]:
    """Return losses, metrics and behaviours, in JSON's types."""
    precision("float32")
    return {
        "keras": keras.version(),
        "backend": f"{keras.config.backend()} {tf.__version__}",
        "losses": parity_values.losses(keras),
        "metrics": parity_values.metrics(keras),
        "behaviours": parity_behaviours.answers(keras),
    }


def progress(what: str) -> None:
    """Print that something is done."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="of values, logits, gradients, training; all without")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="entries of each of ResNet50's gradients, 0: all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    makers = {"logits": logits, "gradients": lambda: all_gradients(options.samples or ALL), "training": training}
    for part in options.parts or ["values", *makers]:
        if part == "values":
            path = options.out / "values.json"
            path.write_text(json.dumps(values(), separators=(",", ":")) + "\n")
        else:
            path = options.out / f"{part}.npz"
            np.savez_compressed(path, **makers[part]())
        print(path.name, path.stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    main()
