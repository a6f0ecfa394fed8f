"""fastcnn: train, fine-tune and serve convolutional image classifiers on CPUs, with Keras' names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastcnn._version import __version__

if TYPE_CHECKING:
    from fastcnn import (
        applications,
        backend,
        callbacks,
        compat,
        config,
        data,
        initializers,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        preprocessing,
        reference,
        regularizers,
        saving,
        utils,
    )
    from fastcnn.config import (
        isa,
        isas,
        num_threads,
        set_isa,
        set_num_threads,
        set_winograd,
        show_config,
        threads,
    )
    from fastcnn.errors import NonFiniteError
    from fastcnn.layers.shape import Input
    from fastcnn.models import Model, Sequential, load_model
    from fastcnn.utils.seed import set_random_seed

# Public names and the modules that have them; nothing is imported before it is used.
_HOMES = {
    "Input": "fastcnn.layers.shape",
    "Model": "fastcnn.models",
    "NonFiniteError": "fastcnn.errors",
    "Sequential": "fastcnn.models",
    "isa": "fastcnn.config",
    "isas": "fastcnn.config",
    "load_model": "fastcnn.models",
    "num_threads": "fastcnn.config",
    "set_isa": "fastcnn.config",
    "set_num_threads": "fastcnn.config",
    "set_random_seed": "fastcnn.utils.seed",
    "set_winograd": "fastcnn.config",
    "show_config": "fastcnn.config",
    "threads": "fastcnn.config",
}
_MODULES = {
    "applications",
    "backend",
    "callbacks",
    "compat",
    "config",
    "data",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plots",
    "preprocessing",
    "reference",
    "regularizers",
    "report",
    "saving",
    "utils",
}

__all__ = [
    "Input",
    "Model",
    "NonFiniteError",
    "Sequential",
    "__version__",
    "applications",
    "backend",
    "callbacks",
    "compat",
    "config",
    "data",
    "initializers",
    "isa",
    "isas",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "num_threads",
    "optimizers",
    "preprocessing",
    "reference",
    "regularizers",
    "saving",
    "set_isa",
    "set_num_threads",
    "set_random_seed",
    "set_winograd",
    "show_config",
    "threads",
    "utils",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastcnn.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module 'fastcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
