"""Text tables about a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.graph import Node, topological

if TYPE_CHECKING:
    from fastcnn.layers import Layer
    from fastcnn.models import Model

_GAP = "  "
_FLOAT_BYTES = 4


def summary(
    model: Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
    *,
    memory: bool = False,
    batch_size: int = 32,
) -> None:
    """Print a row per layer, then the parameter counts; the optimizer has its own line and is in no other count.

    `line_length` is in characters, by default what the longest cells need; `positions` are the columns' right ends, in
    characters or as fractions of the line. `layer_range` is a pair of names or regular expressions: the first match of
    the first to the last match of the second. `expand_nested` lists the layers of models inside the model. With
    `memory` follows what a batch of `batch_size` samples takes: weights, gradients, optimizer, activations, packed
    weights and scratch, in inference and, once the model is compiled, in training (`Model.memory_plan`). Raises
    ValueError for a range that matches no layer.
    """
    put = print if print_fn is None else print_fn
    layers = _in_range(model.layers, layer_range)
    rows = _table(model, layers, expand_nested, show_trainable)
    widths = _widths(rows, line_length, positions)
    rule = "-" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    put(f'Model: "{model.name}"')
    put(rule)
    for i, row in enumerate(rows):
        put(_GAP.join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if i == 0:
            put(rule)
    put(rule)
    trainable = sum(parameter.size for parameter in model.trainable_weights)
    total = model.count_params()
    put(f"Total params: {_size(total)}")
    put(f"Trainable params: {_size(trainable)}")
    put(f"Non-trainable params: {_size(total - trainable)}")
    if model.optimizer is not None and model.optimizer.slots:
        slots = ", ".join(model.optimizer.slots)
        put(f"Optimizer {model.optimizer.name}: {_size(trainable * len(model.optimizer.slots))} in {slots}")
    if memory:
        _put_memory(model, batch_size, put)


def _put_memory(model: Model, batch_size: int, put: Callable[[str], Any]) -> None:
    for training in (False, True):
        if training and model.optimizer is None:
            put("Memory, training: counted once the model is compiled")
        else:
            for line in f"Memory, {model.memory_plan(batch_size, training)}".splitlines():
                put(line)


def memory_size(nbytes: int) -> str:
    """Return a number of bytes with a unit, "97.80 MB" for 102,546,848 (1 MB = 2**20 bytes, as Keras' summary)."""
    size = float(nbytes)
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"


def parse_memory_size(text: str) -> int:
    """Return the bytes of a text such as "4GB", "1.5 GiB" or "512MB", units as in `memory_size` with or without the i.

    Raises ValueError for anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?)(i?)B\s*", text, re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"expected a number with a unit such as '4GB' or '512MB', got {text!r}")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def duration(seconds: float) -> str:
    """Return seconds in words: "0.42 s", "38 s", "4 min 12 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _size(count: int) -> str:
    return f"{count:,} ({memory_size(count * _FLOAT_BYTES)})"


def _in_range(layers: Sequence[Layer], layer_range: Sequence[str] | None) -> list[Layer]:
    if layer_range is None:
        return list(layers)
    if isinstance(layer_range, str) or len(layer_range) != 2:
        raise ValueError(f"summary: layer_range must be a pair of layer names, got {layer_range!r}")
    first = [i for i, layer in enumerate(layers) if re.match(layer_range[0], layer.name)]
    last = [i for i, layer in enumerate(layers) if re.match(layer_range[1], layer.name)]
    if not first or not last or first[0] > last[-1]:
        raise ValueError(f"summary: layer_range {list(layer_range)!r} matches no layers of {len(layers)}")
    return list(layers[first[0] : last[-1] + 1])


def _table(model: Model, layers: Sequence[Layer], expand_nested: bool, show_trainable: bool) -> list[list[str]]:
    """Return the header and the rows; where the graph is a chain, without the column that says so."""
    header = ["Layer (type)", "Output Shape", "Param #", "Connected to"] + ["Trainable"] * show_trainable
    table = [header, *_rows(model, layers, expand_nested, show_trainable, "")]
    nodes = topological(model.outputs)
    chain = all(len(node.inputs) < 2 for node in nodes) and len({node.layer for node in nodes}) == len(nodes)
    return [row[:3] + row[4:] for row in table] if chain else table


def _rows(
    model: Model, layers: Sequence[Layer], expand_nested: bool, show_trainable: bool, indent: str
) -> Iterator[list[str]]:
    """Yield a row per call of each layer; weights are counted at the first call."""
    from fastcnn.models import Model  # which imports this module for Model.summary

    calls: dict[Layer, list[Node[Layer]]] = {}
    for node in topological(model.outputs):
        calls.setdefault(node.layer, []).append(node)
    for layer in layers:
        for i, node in enumerate(calls.get(layer, ())):
            name = f"{indent}{layer.name} ({type(layer).__name__})"
            count = f"{layer.count_params():,}" if i == 0 else "0"
            sources = ", ".join(source.name for source in node.inputs) or "-"
            trainable = "Y" if layer.trainable_weights else "N" if layer.weights else "-"
            yield [name, str(node.shape), count, sources] + [trainable] * show_trainable
        if expand_nested and isinstance(layer, Model):
            yield from _rows(layer, layer.layers, expand_nested, show_trainable, indent + "  ")


def _widths(rows: list[list[str]], line_length: int | None, positions: Sequence[float] | None) -> list[int]:
    count = len(rows[0])
    natural = [max(len(row[i]) for row in rows) for i in range(count)]
    if positions is None and line_length is None:
        return natural
    length = line_length or 100
    if positions is None:
        shares = [sum(natural[: i + 1]) / sum(natural) for i in range(count)]
    else:
        if len(positions) < count or list(positions) != sorted(positions):
            raise ValueError(f"summary: positions must be {count} increasing numbers, got {list(positions)}")
        shares = list(positions[:count])
    if shares[-1] <= 1:
        shares = [share * length for share in shares]
    ends = [round(share) for share in shares]
    widths = [end - begin - len(_GAP) for begin, end in zip([-len(_GAP), *ends], ends, strict=False)]
    if min(widths) < 1:
        raise ValueError(f"summary: line_length {length} is too short for {count} columns")
    return widths


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "~"
