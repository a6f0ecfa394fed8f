"""Files of Keras for tests/keras, and what Keras makes of fastcnn's; run by a Python that has Keras and h5py.

    python bench/peers/keras_files.py write tests/vectors/keras3
    TF_USE_LEGACY_KERAS=1 python bench/peers/keras_files.py write tests/vectors/tf_keras     # with tf-keras 2.21
    python bench/peers/keras_files.py predict MODEL.h5 X.npy OUT.npy
    python bench/peers/keras_files.py weights MODEL.h5 WEIGHTS X.npy OUT.npy [--by-name]

`write` trains two small networks for two steps and leaves whole models, weights in both layouts, and their predictions;
`predict` and `weights` read files of fastcnn's. Keras 3.15 cannot go on training a model from a .h5, not even its own.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

if os.environ.get("TF_USE_LEGACY_KERAS"):
    import tf_keras as keras
    from tf_keras import layers

    SLOPE = {"alpha": 0.2}
else:
    import keras
    from keras import layers

    SLOPE = {"negative_slope": 0.2}


def functional() -> Any:
    """Return a network with branches, a layer called twice and every layer that has arguments of its own."""
    x = layers.Input((8, 8, 3), name="x")
    y = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")(layers.Rescaling(0.5, offset=-0.25, name="scale")(x))
    y = layers.Conv2D(4, 3, padding="same", name="conv", kernel_regularizer="l2")(y)
    y = layers.BatchNormalization(epsilon=1e-4, momentum=0.9, name="bn")(y)
    y = layers.ReLU(max_value=6.0, name="relu")(y)
    again = layers.Conv2D(4, (3, 1), dilation_rate=2, padding="same", activation="relu", name="twice")
    y = layers.Add(name="add")([again(y), again(again(y))])
    y = layers.Concatenate(name="both")([layers.MaxPooling2D(name="max")(y), layers.AveragePooling2D(2, name="avg")(y)])
    y = layers.LeakyReLU(**SLOPE, name="leaky")(y)
    y = layers.Dropout(0.25, name="drop")(layers.GlobalAveragePooling2D(name="global")(y))
    y = layers.Dense(3, use_bias=False, name="fc", kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-3))(y)
    return keras.Model(x, layers.Softmax(name="softmax")(y), name="branches")


def sequential() -> Any:
    """Return a Sequential around another one and around a functional model, the first of them frozen."""
    base = keras.Sequential([layers.Input((8, 8, 3))], name="base")
    for i in (1, 2):
        base.add(layers.Conv2D(4, 3, activation="relu" if i == 1 else None, name=f"c{i}"))
        base.add(layers.BatchNormalization(name=f"b{i}"))
    base.trainable = False
    x = layers.Input((4, 4, 4), name="inner_x")
    y = layers.BatchNormalization(name="b3")(layers.Conv2D(5, 1, name="c3")(x))
    inner = keras.Model(x, layers.BatchNormalization(name="b4")(layers.Conv2D(5, 1, name="c4")(y)), name="inner")
    return keras.Sequential([base, inner, layers.Flatten(), layers.Dense(3, activation="softmax")], name="nested")


def data() -> tuple[Any, Any]:
    """Return pictures and one-hot labels."""
    rng = np.random.default_rng(5)
    return rng.uniform(-2, 4, (6, 8, 8, 3)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(6) % 3]


def write(out: Path) -> None:
    """Write the files."""
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(7)
    x, y = data()
    optimizers = {"functional": keras.optimizers.Adam(0.01), "sequential": keras.optimizers.SGD(0.1, momentum=0.9)}
    arrays = {"x": x, "y": y}
    for name, model in (("functional", functional()), ("sequential", sequential())):
        for layer in model.layers:  # statistics that are not 0 and 1
            for part in layer.layers if hasattr(layer, "layers") else [layer]:
                if isinstance(part, layers.BatchNormalization):
                    gamma, beta, mean, variance = part.get_weights()
                    part.set_weights([gamma * 3, beta + 0.4, mean - 0.3, variance * 0.3])
        model.compile(optimizers[name], "categorical_crossentropy", metrics=["accuracy"])
        for _ in range(2):
            model.train_on_batch(x, y)
        model.save(str(out / f"{name}.h5"))
        model.save_weights(str(out / f"{name}.weights.h5"))
        arrays[f"{name}_p"] = model.predict(x, verbose=0)
        if not any(isinstance(layer, layers.Dropout) for layer in model.layers):
            arrays[f"{name}_losses"] = np.array([model.train_on_batch(x, y)[0] for _ in range(3)])
    np.savez(out / "answers.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("write", "predict", "weights"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--by-name", action="store_true")
    options: Any = parser.parse_args()
    if options.task == "write":
        write(options.paths[0])
    elif options.task == "predict":
        model, x, out = options.paths
        np.save(out, keras.models.load_model(str(model)).predict(np.load(x), verbose=0))
    else:
        path, weights, x, out = options.paths
        model = keras.models.load_model(str(path), compile=False)
        for weight in model.weights:
            weight.assign(0 * weight)
        model.load_weights(str(weights), **({"by_name": True} if options.by_name else {}))
        np.save(out, model.predict(np.load(x), verbose=0))


if __name__ == "__main__":
    main()
