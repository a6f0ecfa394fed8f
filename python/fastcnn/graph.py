"""Symbolic tensors and the orders in which a graph of them is walked; no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Shape = tuple[int, ...]

Operation = TypeVar("Operation")
Operation_co = TypeVar("Operation_co", covariant=True)


class Node(Generic[Operation_co]):
    """What `layer` gives for `inputs`: a tensor whose samples have the shape `sample_shape`.

    A layer called twice stands behind two nodes. `inference` is true for a call with `training=False`, which keeps
    batch normalisation in inference mode there.
    """

    __slots__ = ("inference", "inputs", "layer", "sample_shape")

    dtype = "float32"

    def __init__(
        self,
        layer: Operation_co,
        inputs: Sequence[Node[Operation_co]],
        sample_shape: Shape,
        inference: bool = False,
    ) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self.sample_shape = sample_shape
        self.inference = inference

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Keras' form: (None, H, W, C), None for the batch axis."""
        return (None, *self.sample_shape)

    @property
    def name(self) -> str:
        """Name of the layer."""
        return str(getattr(self.layer, "name", self.layer))

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.shape}>"


def topological(outputs: Sequence[Node[Operation]]) -> list[Node[Operation]]:
    """Return every node that `outputs` depend on, each after its inputs; the order follows from the graph alone."""
    order: list[Node[Operation]] = []
    done: set[Node[Operation]] = set()
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, inputs_done = stack.pop()
        if node in done:
            continue
        if inputs_done:
            done.add(node)
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs) if source not in done)
    return order


def consumer_counts(nodes: Sequence[Node[Operation]], outputs: Sequence[Node[Operation]]) -> dict[Node[Operation], int]:
    """Return how often each node is read; being an output counts as once."""
    counts = dict.fromkeys(nodes, 0)
    for node in nodes:
        for source in node.inputs:
            counts[source] += 1
    for node in outputs:
        counts[node] += 1
    return counts


def layers_by_depth(outputs: Sequence[Node[Operation]]) -> list[Operation]:
    """Return each layer once in the order Keras lists them: farthest from the outputs first.

    The depth of a layer is the length of its longest path to an output; equal depths are ordered by the first visit of
    a depth-first walk from the outputs. Weight lists and HDF5 files written by Keras follow this order.
    """
    depth: dict[Node[Operation], int] = {}
    layer_depth: dict[Operation, int] = {}
    for node in reversed(topological(outputs)):
        layer_depth[node.layer] = max(depth.setdefault(node, 0), layer_depth.get(node.layer, 0))
        for source in node.inputs:
            depth[source] = max(depth.get(source, 0), layer_depth[node.layer] + 1)
    visit: dict[Operation, int] = {}
    seen: set[Node[Operation]] = set()
    stack = list(reversed(outputs))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        visit.setdefault(node.layer, len(visit))
        stack.extend(reversed(node.inputs))
    return sorted(layer_depth, key=lambda layer: (-layer_depth[layer], visit[layer]))
