"""Architectures as JSON and as copies, and graphs taken apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fastcnn import applications
from fastcnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, PythonLayer
from fastcnn.models import Model, Sequential, clone_model, load_model, model_from_config, model_from_json, save_model

X = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)


def chain() -> Sequential:
    layers = [Input((32, 32, 3)), Conv2D(4, 3, strides=4, name="conv"), BatchNormalization(name="bn"), Flatten()]
    return Sequential([*layers, Dropout(0.1), Dense(2, activation="softmax", name="fc")], name="small")


@pytest.mark.parametrize(
    "make",
    [
        chain,
        lambda: applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=3),
        lambda: applications.VGG16(weights=None, input_shape=(32, 32, 3), include_top=False, pooling="max"),
        lambda: Sequential([chain(), Dense(3)]),
    ],
    ids=["chain", "resnet50", "vgg16", "nested"],
)
def test_json_and_clones_are_the_same_architecture_with_other_weights(make: Any) -> None:
    model = make()
    for copy in (model_from_json(model.to_json(indent=1)), clone_model(model)):
        assert type(copy) is type(model)
        assert copy.get_config() == model.get_config()
        assert copy.optimizer is None
        assert any(not np.array_equal(a, b) for a, b in zip(copy.get_weights(), model.get_weights(), strict=True))
        copy.set_weights(model.get_weights())
        assert np.array_equal(copy.predict(X), model.predict(X))


def test_json_that_keras_3_wrote_inside_its_files() -> None:
    path = Path(__file__).parents[1] / "vectors" / "keras3" / "functional.h5"
    with h5py.File(path) as file:
        text = file.attrs["model_config"]
    model = model_from_json(text)
    assert model.get_config() == load_model(path).get_config()
    assert model_from_config(json.loads(text)).name == "branches"


def test_a_sequential_of_keras_2_without_input_layer_and_name() -> None:
    layers = [
        {"class_name": "Conv2D", "config": {"name": "c", "filters": 2, "kernel_size": [3, 3], "dtype": "float32",
            "batch_input_shape": [None, 8, 8, 3], "data_format": "channels_last", "kernel_constraint": None,
            "kernel_initializer": {"class_name": "VarianceScaling", "config": {
                "scale": 1.0, "mode": "fan_avg", "distribution": "normal", "seed": None}}}},
        {"class_name": "Flatten", "config": {"name": "f", "trainable": True}},
    ]  # fmt: skip
    model = model_from_config({"class_name": "Sequential", "config": layers})
    assert model.output_shape == (None, 72)
    assert model.get_layer("c").get_config()["kernel_initializer"]["config"]["distribution"] == "truncated_normal"


def test_clones_of_own_layers() -> None:
    class Double(PythonLayer):
        def forward(self, *xs: Any) -> Any:
            return 2 * xs[0]

    model = Sequential([Input((4,)), Double(), Dense(2)])
    model.class_names = ["a", "b"]
    copy = clone_model(model)
    copy.set_weights(model.get_weights())
    x = X.reshape(-1, 4)[:5]
    assert np.array_equal(copy.predict(x), model.predict(x))
    assert copy.class_names == ["a", "b"]


def test_what_is_no_architecture_is_refused() -> None:
    for call, message in (
        (lambda: model_from_json("{"), "model_from_json: json_string is not JSON"),
        (lambda: model_from_json(3), "model_from_json: json_string is not JSON"),
        (lambda: model_from_json("[1]"), "model_from_config: config must be a dict, got list"),
        (lambda: model_from_json('{"class_name": "X", "config": {}}'), "got class 'X'"),
        (lambda: model_from_json('{"class_name": "Model", "config": {"layers": []}}'), "the configuration lacks"),
        (lambda: clone_model(chain(), clone_function=print), "clone_function is not supported yet"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="clone_model: model must be a Model or Sequential, got Dense"):
        clone_model(Dense(3))
    config = json.loads(applications.VGG16(weights=None, input_shape=(32, 32, 3), include_top=False).to_json())
    config["config"]["layers"][2]["inbound_nodes"][0][0][3] = {"training": True}
    with pytest.raises(ValueError, match="layer 'block1_conv2' is called with"):
        model_from_config(config)


def test_features_of_a_layer_and_save_model(tmp_path: Path) -> None:
    model = chain()
    save_model(model, tmp_path / "m.h5")
    loaded = load_model(tmp_path / "m.h5")
    features = Model(inputs=loaded.input, outputs=loaded.get_layer("bn").output)
    assert features.predict(X).shape == (4, 8, 8, 4)
    assert np.array_equal(features.get_weights()[0], model.get_weights()[0])


def test_shapes_of_what_train_on_batch_returns() -> None:
    y = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    model = chain()
    model.compile("sgd", "categorical_crossentropy")
    assert isinstance(model.train_on_batch(X, y), float)
    model.compile("sgd", "categorical_crossentropy", metrics=["acc"])
    loss, accuracy = model.train_on_batch(X, y)
    assert 0 <= accuracy <= 1
    assert model.train_on_batch(X, y, return_dict=True).keys() == {"loss", "acc"}
    assert len(model.test_on_batch(X, y)) == 2
    assert loss > 0
