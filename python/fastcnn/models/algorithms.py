"""Which algorithm computes each convolution of a model, and how to force one."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastcnn import _core
from fastcnn.graph import Shape
from fastcnn.layers.base import Layer
from fastcnn.layers.conv import ALGORITHMS, Conv2D, FusedConv2D
from fastcnn.program import Recipe

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer

_WORDS = {engine: word for word, engine in ALGORITHMS.items() if word is not None}
_HEADER = ("Convolution", "Image", "Forward", "In training", "Backward data", "Backward weights", "Possible", "Forced")


@dataclass(frozen=True)
class ConvAlgorithms:
    """The algorithms of one convolution for one shape of image.

    `image` is [H, W, C] of one input sample. `forward`, `training` (the forward run of `fit`, whose batches share the
    weights each time these are packed), `backward_data`, the gradient of the input, and `backward_weights`, that of the
    kernel, are what is used, "direct" or "winograd"; a gradient is None where training needs none. `backward_weights`
    is what batches of 32 use: for a few small images it is "direct". `possible` can compute all of them; `forced` is
    the layer's own `algorithm`, None where the engine chooses.
    """

    layer: str
    image: Shape
    forward: str
    training: str
    backward_data: str | None
    backward_weights: str | None
    possible: tuple[str, ...]
    forced: str | None


class AlgorithmTable(tuple[ConvAlgorithms, ...]):
    """A ConvAlgorithms for each convolution and shape, in the order they are computed; printing it gives a table."""

    def __str__(self) -> str:
        rows = [_HEADER]
        for row in self:
            image = "x".join(map(str, row.image))
            used = (row.forward, row.training, row.backward_data or "-", row.backward_weights or "-")
            rows.append((row.layer, image, *used, ", ".join(row.possible), row.forced or "-"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def algorithms(model: Trainer) -> AlgorithmTable:
    """Return what Model.algorithms does."""
    _check_built("algorithms", model)
    rows: dict[tuple[Conv2D, Shape, object], ConvAlgorithms] = {}
    inference = model._inference()
    for node in inference.nodes:
        if isinstance(node.layer, FusedConv2D):
            step, image = node.layer, node.inputs[-1].sample_shape
            forward = _used(step, image)
            rows[step.layer, image, step.padding(image)] = ConvAlgorithms(
                step.name, image, forward, forward, None, None, _possible(step, image), step.layer.algorithm
            )
    training = Recipe(model._sinks, trained=_trained(model))
    number = {node: i for i, node in enumerate(training.nodes)}
    for node in training.nodes:
        if isinstance(node.layer, FusedConv2D):
            step, image = node.layer, node.inputs[-1].sample_shape
            key, batched = (step.layer, image, step.padding(image)), step.layer in training.trained
            rows[key] = replace(rows[key], training=_used(step, image, batched=batched))
            if batched:
                rows[key] = replace(rows[key], backward_weights=_used(step, image, backward_weights=True))
            if number[node.inputs[-1]] in training.active:
                rows[key] = replace(rows[key], backward_data=_used(step, image, backward_data=True, batched=batched))
    return AlgorithmTable(rows.values())


def set_algorithms(model: Trainer, chosen: Mapping[str, str | None]) -> None:
    """Do what Model.set_algorithms does."""
    where = "set_algorithms"
    _check_built(where, model)
    if not isinstance(chosen, Mapping):
        raise TypeError(
            f"{where}: expected a dict of layer names and None, 'direct' or 'winograd', got {type(chosen).__name__}"
        )
    named: dict[str, list[Conv2D]] = {}
    for layer in model.flat_layers():
        if isinstance(layer, Conv2D):
            named.setdefault(layer.name, []).append(layer)
    layers = {name: _checked(where, model, named, name, algorithm) for name, algorithm in chosen.items()}
    for name, algorithm in chosen.items():
        layers[name].algorithm = algorithm


def _checked(where: str, model: Trainer, named: Mapping[str, list[Conv2D]], name: str, algorithm: str | None) -> Conv2D:
    """Return the convolution of a name; raises ValueError if there is none, or several, or it cannot do that."""
    found = named.get(name, [])
    if not found:
        known = ", ".join(named) or "none"
        kinds = {layer.name: type(layer).__name__ for layer in model.flat_layers()}
        what = f"{name!r} is a {kinds[name]}" if name in kinds else f"there is no layer {name!r}"
        raise ValueError(f"{where}: {what} in {model.name}, whose convolutions are {known}")
    if len(found) > 1:
        raise ValueError(
            f"{where}: {len(found)} convolutions in {model.name} and the models inside it are called {name!r}; set the "
            "attribute `algorithm` of the one that is meant"
        )
    if not (algorithm is None or isinstance(algorithm, str)) or algorithm not in ALGORITHMS:
        raise ValueError(f"{where}: the algorithm of {name!r} must be None, 'direct' or 'winograd', got {algorithm!r}")
    (layer,) = found
    size, strides, rate = layer.kernel_size, layer.strides, layer.dilation_rate
    if algorithm == "winograd" and algorithm not in _possible(FusedConv2D(layer, False), _any_image(layer)):
        raise ValueError(
            f"{where}: 'winograd' needs a 3x3 window, strides 1 or 2 and dilation 1, {name!r} has a "
            f"{size[0]}x{size[1]} window with strides {list(strides)} and dilation {list(rate)}"
        )
    return layer


def _any_image(layer: Conv2D) -> Shape:
    """Return the shape of an image that the window fits into; what can be computed does not depend on it."""
    return *layer.extent, layer.kernel.shape[2]


def _used(step: FusedConv2D, image: Shape, **options: bool) -> str:
    forced, possible = step.layer.algorithm, _possible(step, image, **options)
    return forced if forced in possible else possible[0]


def _possible(step: FusedConv2D, image: Shape, **options: bool) -> tuple[str, ...]:
    """Return the words for the engine's algorithms, its choice first."""
    layer = step.layer
    found = _core.conv2d_algorithms(
        (image[0], image[1]),
        (*layer.kernel_size, image[2], layer.filters),
        strides=layer.strides,
        padding=step.padding(image),
        dilation=layer.dilation_rate,
        **options,
    )
    return tuple(_WORDS[algorithm] for algorithm in found)


def _trained(model: Trainer) -> Set[Layer]:
    """Return the layers that training changes: as `compile` fixed them, or before that as they say now."""
    if model._compiled is not None:
        return model._compiled.trained
    return frozenset(layer for layer in model.flat_layers() if layer.trainable or not layer.weights)


def _check_built(where: str, model: Trainer) -> None:
    if not model.built:
        raise ValueError(f"{where}: {model.name} does not know its input shape; call build(shape) first")
