"""The arguments are Keras'."""

from __future__ import annotations

import inspect

import pytest

from fastcnn.models import Model

REQUIRED = inspect.Parameter.empty
DATA = {"x": None, "y": None, "batch_size": None}
KERAS = {
    "compile": {
        "optimizer": "rmsprop",
        "loss": None,
        "loss_weights": None,
        "metrics": None,
        "weighted_metrics": None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": "auto",
        "auto_scale_loss": True,
    },
    "fit": {
        **DATA,
        "epochs": 1,
        "verbose": "auto",
        "callbacks": None,
        "validation_split": 0.0,
        "validation_data": None,
        "shuffle": True,
        "class_weight": None,
        "sample_weight": None,
        "initial_epoch": 0,
        "steps_per_epoch": None,
        "validation_steps": None,
        "validation_batch_size": None,
        "validation_freq": 1,
    },
    "evaluate": {
        **DATA,
        "verbose": "auto",
        "sample_weight": None,
        "steps": None,
        "callbacks": None,
        "return_dict": False,
    },
    "predict": {"x": REQUIRED, "batch_size": None, "verbose": "auto", "steps": None, "callbacks": None},
    "train_on_batch": {
        "x": REQUIRED,
        "y": None,
        "sample_weight": None,
        "class_weight": None,
        "return_dict": False,
    },
    "test_on_batch": {"x": REQUIRED, "y": None, "sample_weight": None, "return_dict": False},
    "predict_on_batch": {"x": REQUIRED},
    "summary": {
        "line_length": None,
        "positions": None,
        "print_fn": None,
        "expand_nested": False,
        "show_trainable": False,
        "layer_range": None,
    },
    "save": {"filepath": REQUIRED, "overwrite": True, "zipped": None},
    "save_weights": {"filepath": REQUIRED, "overwrite": True, "max_shard_size": None},
    "load_weights": {"filepath": REQUIRED, "by_name": False, "skip_mismatch": False},
}

OWN = {
    "compile": {"recompute": False},
    "fit": {"memory_limit": None},
    "summary": {"memory": False, "batch_size": 32},
}  # behind Keras', by keyword only


@pytest.mark.parametrize("method", KERAS)
def test_arguments_are_those_of_keras_in_the_same_order(method):
    parameters = list(inspect.signature(getattr(Model, method)).parameters.values())[1:]
    own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert own == OWN.get(method, {})
    assert [(p.name, p.default) for p in parameters if p.name not in own] == list(KERAS[method].items())
