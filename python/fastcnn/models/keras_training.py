"""How a model trains, in Keras' words: the `training_config` and the optimizer's arrays of an .h5 file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fastcnn import losses, metrics, optimizers
from fastcnn.losses import Loss
from fastcnn.models.model import Model
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import Parameter

Config = dict[str, Any]

ITERATION, RATE = "iteration", "learning_rate"
_ITERATIONS = (ITERATION, "iterations", "iter")
_LETTERS = {"m": "momentum", "v": "velocity", "vhat": "velocity_hat", "rms": "velocity"}  # of tf.keras
_WITHOUT_MEANING = ("is_legacy_optimizer", "jit_compile", "loss_scale_factor", "exclude_from_weight_decay")
_ACCURACY = ("acc", "accuracy")

# -- writing -----------------------------------------------------------------------------------------------------------


def to_keras(model: Model) -> Config | None:
    """Return the training configuration in Keras 2's form, None for a model that is not compiled."""
    config = model.get_compile_config()
    if config is None:
        return None
    optimizer = config["optimizer"]
    assert model.optimizer is not None
    assert model.loss is not None
    plain = optimizers.get(optimizer["class_name"]).get_config()
    always = ("name", *model.optimizer.arguments)  # older versions know no others
    kept = {
        name: value
        for name, value in optimizer["config"].items()
        if name in always or (name not in _WITHOUT_MEANING and plain.get(name) != value)
    }
    return {
        "optimizer_config": {"class_name": optimizer["class_name"], "config": kept},
        "loss": _loss(model.loss, config["loss"]),
        "metrics": [metric if isinstance(metric, str) else metric["config"]["name"] for metric in config["metrics"]],
        "weighted_metrics": None,
        "sample_weight_mode": None,
        "loss_weights": None,
    }


def _loss(loss: Loss, config: Config) -> Any:
    """Return the name of a loss without arguments of its own, as old files have it."""
    plain = losses.get(loss.default_name).get_config()
    return loss.default_name if loss.get_config() == plain else config


def slots(optimizer: Optimizer, weights: list[Parameter]) -> tuple[list[tuple[str, Parameter]], bool]:
    """Return the optimizer's arrays in the order of Keras 3, and whether Keras has all of them.

    Adam's momentum and velocity of a weight lie side by side; other kinds of arrays follow one another.
    """
    together = tuple(slot for slot in optimizer.slots if type(optimizer).__name__.startswith("Adam"))[:2]
    order = [(slot, weight) for weight in weights for slot in together]
    order += [(slot, weight) for slot in optimizer.slots if slot not in together for weight in weights]
    return order, optimizer.slots == optimizer.rule_slots


def places(names: list[str], order: list[tuple[str, Parameter]]) -> tuple[dict[tuple[str, str], str], str | None]:
    """Return which of an optimizer's arrays is which slot of which weight, and which counts the steps.

    tf.keras names them "Adam/m/conv/kernel:0" or "Adam/conv/kernel/m:0", Keras 3 "adam/conv_kernel_momentum" in the
    order of `slots`. Empty, and None, where neither is recognised.
    """
    plain = {name.removesuffix(":0"): name for name in names}
    count = next((name for short, name in plain.items() if short.rpartition("/")[2] in _ITERATIONS), None)
    slots = [short for short in plain if short.rpartition("/")[2] not in (*_ITERATIONS, RATE)]
    named: dict[tuple[str, str], str] = {}
    for short in slots:
        parts = short.split("/")
        if len(parts) > 2 and parts[-3] in (*_LETTERS, *_LETTERS.values()):
            slot, weight = parts[-3], parts[-2:]
        elif len(parts) > 2:
            slot, weight = parts[-1], parts[-3:-1]
        else:
            continue
        named[_LETTERS.get(slot, slot), "/".join(weight)] = plain[short]
    wanted = [(slot, weight.path) for slot, weight in order]
    if all(place in named for place in wanted):
        return {place: named[place] for place in wanted}, count
    if len(slots) == len(wanted) and all(a.endswith(f"_{slot}") for a, (slot, _) in zip(slots, wanted, strict=True)):
        return {place: plain[short] for place, short in zip(wanted, slots, strict=True)}, count
    return {}, None


# -- reading -----------------------------------------------------------------------------------------------------------


def compile_arguments(config: Mapping[str, Any]) -> Config:
    """Return the arguments of `compile` for what Keras wrote; raises ValueError for what fastcnn does not have."""
    loss = _read_loss(config.get("loss"))
    return {
        "optimizer": _read_optimizer(config["optimizer_config"]),
        "loss": loss,
        "metrics": [_read_metric(metric, loss) for metric in _flat(config.get("metrics"))],
        "weighted_metrics": [_read_metric(metric, loss) for metric in _flat(config.get("weighted_metrics"))],
    }


def _read_optimizer(given: Mapping[str, Any]) -> Optimizer:
    name = str(given["class_name"]).rpartition(">")[2]  # "Custom>Adam" of tf.keras
    cls = type(optimizers.get(name))
    known = {*inspect.signature(cls.__init__).parameters, "decay"}
    config: Config = {}
    for key, value in given["config"].items():
        argument = "learning_rate" if key == "lr" else key
        if argument in known and not (argument == "epsilon" and value is None):
            config[argument] = value
        elif key not in _WITHOUT_MEANING and value not in (None, False, 0, 0.0):
            raise ValueError(f"optimizer {name} has {key}={value!r}, which fastcnn does not have")
    rate = config.get("learning_rate")
    if isinstance(rate, Mapping):
        config["learning_rate"] = {"class_name": rate["class_name"], "config": rate["config"]}
    elif isinstance(rate, float):  # a float32 in Keras: 0.001 came out as 0.0010000000474974513
        config["learning_rate"] = float(f"{rate:.7g}")
    return cls.from_config(config)


def _read_loss(given: Any) -> Loss:
    if isinstance(given, Mapping) and "class_name" in given:
        config = {name: value for name, value in (given.get("config") or {}).items() if name not in ("fn", "dtype")}
        if config.get("reduction") == "auto":
            del config["reduction"]
        return losses.get({"class_name": given["class_name"], "config": config})
    return losses.get(given)


def _flat(given: Any) -> list[Any]:
    """Return metrics without the lists per output that tf.keras puts around them."""
    if not given:
        return []
    if not isinstance(given, list):
        raise ValueError(f"metrics are {given!r}, expected a list")
    return [metric for item in given for metric in (item if isinstance(item, list) else [item])]


def _read_metric(given: Any, loss: Loss) -> Any:
    if isinstance(given, str):
        return given
    config = given.get("config") or {}
    if isinstance(config, str):  # a function by its name
        return config
    name = config.get("name")
    if name in _ACCURACY:
        return name
    if "fn" in config and isinstance(config["fn"], str):
        return config["fn"]
    kept = {key: value for key, value in config.items() if key not in ("dtype", "fn")}
    return metrics.get({"class_name": given.get("class_name"), "config": kept}, loss)
