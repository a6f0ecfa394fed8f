"""What happens to samples before a program runs: random layers, and what stands between the input and them.

A program has no randomness and no place for pictures of other sizes than its own, and nobody needs the gradient of an
augmented picture. So these steps are cut off the graph; the loader threads do them sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastcnn.graph import Node, Shape, consumer_counts, topological
from fastcnn.layers.base import Array, Draw, Step


@dataclass(frozen=True)
class Preparation:
    """Steps done to each sample, and the shape that they give it."""

    steps: tuple[Step, ...]
    shape: Shape

    @property
    def in_inference(self) -> bool:
        """Whether anything happens outside training."""
        return any(step.prepares == "always" for step in self.steps)

    def sample(self, x: Array, draw: Draw | None) -> Array:
        """Return one sample prepared for the program; `draw` is None in inference."""
        for step in self.steps:
            x = step.prepare(x, draw)
        return x


def split(outputs: Sequence[Node[Step]]) -> tuple[Preparation | None, list[Node[Step]]]:
    """Return what is done to samples first (None: nothing), and the outputs of the graph without it.

    Raises ValueError for a random step that is not reached from the input through steps that `prepare` can do.
    """
    nodes = topological(outputs)
    random = [node for node in nodes if node.layer.random]
    if not random:
        return None, list(outputs)
    chain = _chain(nodes, outputs)
    for node in random:
        if node not in chain:
            raise ValueError(
                f"{node.name}: a layer that changes samples at random must come first in a model, behind the input; "
                f"before it there may be other such layers and Rescaling, here it reads {node.inputs[0].name}"
            )
    last = max(chain.index(node) for node in random)
    steps = tuple(node.layer for node in chain[: last + 1])
    source = next(node for node in nodes if not node.inputs)
    shape = chain[last].sample_shape
    made = {chain[last]: Node(source.layer, (), shape)}
    for node in nodes:
        if node.inputs and node not in chain[: last + 1]:
            inputs = [made[x] for x in node.inputs]
            made[node] = node if tuple(inputs) == node.inputs else Node(node.layer, inputs, node.sample_shape)
    return Preparation(steps, shape), [made[node] for node in outputs]


def _chain(nodes: Sequence[Node[Step]], outputs: Sequence[Node[Step]]) -> list[Node[Step]]:
    """Return the nodes that follow the input one by one and can be prepared; nobody else reads what they read."""
    counts = consumer_counts(nodes, outputs)
    chain: list[Node[Step]] = []
    before = next(node for node in nodes if not node.inputs)
    for node in nodes:
        if node.inputs == (before,) and counts[before] == 1 and node.layer.prepares:
            chain.append(node)
            before = node
    return chain
