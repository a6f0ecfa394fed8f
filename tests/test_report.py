from __future__ import annotations

import re
from typing import Any

import pytest

from fastcnn import applications, report
from fastcnn.layers import Add, Conv2D, Dense, Flatten, Input
from fastcnn.models import Model, Sequential


def lines(model: Model, **arguments: Any) -> list[str]:
    out: list[str] = []
    report.summary(model, print_fn=out.append, **arguments)
    return out


def chain() -> Model:
    layers = [Input((8, 8, 3), name="x"), Conv2D(4, 3, name="conv"), Flatten(name="flat"), Dense(2, name="fc")]
    return Sequential(layers, name="small")


def branching() -> Model:
    x = Input((8, 8, 4), name="x")
    conv = Conv2D(4, 3, padding="same", name="conv")
    y = Add(name="add")([conv(conv(x)), x])
    return Model(x, Conv2D(1, 1, name="last")(y), name="branching")


def test_chain() -> None:
    model = chain()
    model.get_layer("conv").trainable = False
    text = lines(model)
    assert text[0] == 'Model: "small"'
    assert re.fullmatch("-+", text[1])
    assert text[2].split("  ")[0] == "Layer (type)"
    assert "Connected to" not in text[2]
    row = next(line for line in text if line.startswith("conv "))
    assert row.split("  ")[0] == "conv (Conv2D)"
    assert "(None, 6, 6, 4)" in row
    assert row.endswith("112")  # 3*3*3*4 + 4
    assert "Total params: 402 (1.57 KB)" in text  # and 144*2 + 2
    assert "Trainable params: 290 (1.13 KB)" in text
    assert "Non-trainable params: 112 (448.00 B)" in text
    assert not any(line.startswith("Optimizer") for line in text)


def test_optimizer_has_its_own_line() -> None:
    model = chain()
    model.compile("adam", "categorical_crossentropy")
    text = lines(model)
    assert "Total params: 402 (1.57 KB)" in text
    assert text[-1] == "Optimizer adam: 804 (3.14 KB) in momentum, velocity"


def test_memory_is_shown_for_a_batch() -> None:
    model = chain()
    count = len(lines(model))
    text = lines(model, memory=True, batch_size=7)[count:]
    assert text[0] == "Memory, inference, batch 7"
    assert [line.split()[0] for line in text[1:-1]] == [
        *("weights", "gradients", "optimizer", "activations", "packed", "scratch", "total")
    ]
    assert text[-1] == "Memory, training: counted once the model is compiled"
    model.compile("adam", "mean_squared_error")
    text = lines(model, memory=True, batch_size=7)
    assert "\n".join(text[-8:]) == f"Memory, {model.memory_plan(7)}"
    assert lines(model, memory=True)[-8] == "Memory, training, batch 32"


def test_branches_show_what_they_join() -> None:
    text = lines(branching())
    assert text[2].endswith("Connected to")
    rows = [line.split("  ") for line in text if line.startswith("conv ")]
    assert len(rows) == 2  # called twice, counted once
    assert sum(line.count("148") for line in text if line.startswith("conv ")) == 1
    assert next(line for line in text if line.startswith("add ")).endswith("conv, x")
    assert "Total params: 153 (612.00 B)" in text


def test_show_trainable() -> None:
    model = chain()
    model.get_layer("conv").trainable = False
    marks = {line.split()[0]: line.split()[-1] for line in lines(model, show_trainable=True) if "(None" in line}
    assert marks == {"conv": "N", "flat": "-", "fc": "Y"}


def test_layer_range() -> None:
    text = lines(branching(), layer_range=("conv", "ad+"))
    assert {line.split()[0] for line in text if "(None" in line} == {"conv", "add"}
    assert "Total params: 153 (612.00 B)" in text
    with pytest.raises(ValueError, match=r"layer_range \['a', 'b'\] matches no layers of 4"):
        lines(branching(), layer_range=("a", "b"))
    with pytest.raises(ValueError, match="layer_range must be a pair of layer names, got 'conv'"):
        lines(branching(), layer_range="conv")


@pytest.mark.parametrize(
    "arguments", [{"line_length": 60}, {"positions": [20, 40, 50, 60]}, {"positions": [0.3, 0.6, 0.8, 1]}]
)
def test_line_length_and_positions(arguments: dict[str, Any]) -> None:
    text = lines(branching(), **arguments)
    rule = text[1]
    assert len(rule) == (100 if arguments.get("positions", [0])[-1] == 1 else 60)
    assert all(len(line) <= len(rule) for line in text[2:-3])


def test_too_short_a_line() -> None:
    with pytest.raises(ValueError, match="line_length 8 is too short for 4 columns"):
        lines(branching(), line_length=8)
    with pytest.raises(ValueError, match="positions must be 4 increasing numbers"):
        lines(branching(), positions=[0.5, 0.4, 0.8, 1])


def test_nested_models_are_expanded_on_request() -> None:
    x = Input((8, 8, 3), name="outer")
    model = Model(x, Dense(3, name="head")(chain()(x)), name="whole")
    assert not any("conv (" in line for line in lines(model))
    assert any(line.startswith("  conv (Conv2D)") for line in lines(model, expand_nested=True))


def test_resnet50() -> None:
    text = lines(applications.ResNet50(weights=None))
    assert "Total params: 25,636,712 (97.80 MB)" in text
    assert "Non-trainable params: 53,120 (207.50 KB)" in text
    assert sum("(None" in line for line in text) == 177


def test_prints_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    report.summary(chain())
    assert capsys.readouterr().out.startswith('Model: "small"\n')


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0.00 B"), (1023, "1023.00 B"), (1024, "1.00 KB"), (3 << 20, "3.00 MB"), (5 << 30, "5.00 GB")],
)
def test_memory_size(nbytes: int, text: str) -> None:
    assert report.memory_size(nbytes) == text
