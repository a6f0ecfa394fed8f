"""Graph to graph: layers become the steps that a program runs, and steps that one operation can do become one.

The written graph stays as it is; names, weights, summary and files are its own. Fused are

    zero padding      into the convolution behind it, and behind a ReLU into the max-pooling behind it
    normalisation     into the convolution's weights where no gradient goes through it, else beside the convolution,
                      which then makes the batch's statistics
    addition, ReLU    into a convolution or normalisation
    ReLU              into a dense layer
    2x2 max-pooling   into a convolution

In training a normalisation that only one convolution reads is left to that one, which normalises what it reads: a
tensor less to write, to read and to keep.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from fastcnn.graph import Node, consumer_counts, topological
from fastcnn.layers.base import Layer, Padding, Pair, Step
from fastcnn.layers.combine import Add
from fastcnn.layers.conv import FusedConv2D
from fastcnn.layers.dense import FusedDense
from fastcnn.layers.loss import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    SquaredError,
)
from fastcnn.layers.norm import FusedBatchNormalization
from fastcnn.layers.pointwise import ReLU, Sigmoid, Softmax
from fastcnn.layers.pool import FusedMaxPooling2D
from fastcnn.layers.shape import ZeroPadding2D
from fastcnn.losses import Loss

StepNode = Node[Step]


def lower(outputs: Sequence[Node[Layer]], trained: Set[Layer]) -> list[StepNode]:
    """Return the outputs of the same graph made of steps, models used as layers replaced by their own graphs.

    The layers in `trained` are being trained, the others are constants in inference mode.
    """
    made: dict[Node[Layer], StepNode] = {}
    for node in topological(outputs):
        made[node] = _lower_node(node, [made[x] for x in node.inputs], trained, node.inference)
    return [made[node] for node in outputs]


def _lower_node(node: Node[Layer], inputs: list[StepNode], trained: Set[Layer], inference: bool) -> StepNode:
    inner = node.layer.subgraph
    if inner is not None:
        source, output = inner
        made = {source: inputs[0]}
        for part in topological([output]):
            if part not in made:
                made[part] = _lower_node(part, [made[x] for x in part.inputs], trained, inference or part.inference)
        return made[output]
    for step in node.layer.lower(node.layer in trained, inference):
        inputs = [Node(step, inputs, node.sample_shape)]
    return inputs[0]


def with_loss(output: StepNode, loss: Loss) -> StepNode:
    """Return the node of a loss of a graph's output; the activation it is made for becomes part of it."""
    last, step = output.layer, _loss_step(output.layer, loss)
    fused = isinstance(last, Softmax | Sigmoid) and isinstance(step, SoftmaxCrossEntropy | SigmoidCrossEntropy)
    return Node(step, output.inputs if fused else (output,), output.sample_shape)


def _loss_step(last: Step, loss: Loss) -> Step:
    if loss.kind == "squared":
        return SquaredError(loss.floor)
    if loss.kind == "categorical":
        fused = loss.from_logits or isinstance(last, Softmax)
        return SoftmaxCrossEntropy(loss.floor, loss.from_logits) if fused else CategoricalCrossEntropy(loss.floor)
    fused = loss.from_logits or isinstance(last, Sigmoid)
    return SigmoidCrossEntropy(loss.floor, loss.from_logits) if fused else BinaryCrossEntropy(loss.floor)


def active_nodes(nodes: Sequence[StepNode]) -> set[StepNode]:
    """Return the nodes with a backward step: those with trained parameters and all that depend on one of them."""
    active: set[StepNode] = set()
    for node in nodes:
        if node.layer.trained() or any(x in active for x in node.inputs):
            active.add(node)
    return active


def fuse(outputs: Sequence[StepNode]) -> list[StepNode]:
    """Return the outputs of an equivalent graph with fewer steps and tensors."""
    return _leave_to_readers(_Fusion(outputs).outputs)


class _Fusion:
    """Rebuilds a graph from its inputs to its outputs; each node may take the node before it into itself."""

    def __init__(self, outputs: Sequence[StepNode]) -> None:
        nodes = topological(outputs)
        self.counts = consumer_counts(nodes, outputs)
        self.active = active_nodes(nodes)
        self.made: dict[StepNode, StepNode] = {}
        self.place: dict[StepNode, int] = {}  # of a rebuilt node: that of the node it stands for
        for place, node in enumerate(nodes):
            made = self._rebuild(node)
            self.made[node] = made
            self.place.setdefault(made, place)
        self.outputs = [self.made[node] for node in outputs]

    def _rebuild(self, node: StepNode) -> StepNode:
        step = node.layer
        if isinstance(step, FusedConv2D):
            return self._absorb_padding_into_conv(node, step)
        if isinstance(step, FusedBatchNormalization):
            return self._absorb_conv_into_norm(node, step)
        if isinstance(step, Add):
            return self._absorb_add(node)
        if isinstance(step, ReLU):
            return self._absorb_relu(node)
        if isinstance(step, FusedMaxPooling2D):
            return self._absorb_into_pool(node, step)
        return self._same(node)

    def _same(self, node: StepNode) -> StepNode:
        inputs = [self.made[x] for x in node.inputs]
        return node if tuple(inputs) == node.inputs else Node(node.layer, inputs, node.sample_shape)

    def _only_consumer(self, node: StepNode, position: int = 0) -> StepNode | None:
        """Return the rebuilt input of `node` if nobody else reads it."""
        source = node.inputs[position]
        return self.made[source] if self.counts[source] == 1 else None

    def _absorb_padding_into_conv(self, node: StepNode, step: FusedConv2D) -> StepNode:
        before = self.made[node.inputs[0]]
        pad, conv = before.layer, step.layer
        # others may read the padded input too: it is then computed for them
        if isinstance(pad, ZeroPadding2D) and _within(pad.padding, conv.extent) and conv.padding == "valid":
            return Node(replace(step, extra=pad.padding), before.inputs, node.sample_shape)
        return self._same(node)

    def _absorb_conv_into_norm(self, node: StepNode, step: FusedBatchNormalization) -> StepNode:
        before = self._only_consumer(node)
        if before is None or not isinstance(before.layer, FusedConv2D) or not _plain(before.layer):
            return self._same(node)
        folds = not step.batch_statistics and node not in self.active
        return Node(replace(before.layer, norm=step, folds=folds), before.inputs, node.sample_shape)

    def _absorb_add(self, node: StepNode) -> StepNode:
        candidates = []
        for position in range(len(node.inputs)):
            before = self._only_consumer(node, position)
            other = self.made[node.inputs[1 - position]] if len(node.inputs) == 2 else None
            if before is not None and other is not None and _takes_residual(before, other):
                candidates.append((self.place[before], position, before))
        if not candidates:
            return self._same(node)
        _, position, before = max(candidates, key=lambda candidate: candidate[0])
        step = before.layer
        assert isinstance(step, FusedConv2D | FusedBatchNormalization)
        residual = self.made[node.inputs[1 - position]]
        return Node(replace(step, residual=True), (residual, *before.inputs), node.sample_shape)

    def _absorb_relu(self, node: StepNode) -> StepNode:
        before = self._only_consumer(node)
        if before is None:
            return self._same(node)
        step = before.layer
        free = isinstance(step, FusedConv2D) and not step.pool
        if (free or isinstance(step, FusedBatchNormalization | FusedDense)) and not step.nonnegative:
            assert isinstance(step, FusedConv2D | FusedBatchNormalization | FusedDense)
            return Node(replace(step, relu=True), before.inputs, node.sample_shape)
        return self._same(node)

    def _absorb_into_pool(self, node: StepNode, step: FusedMaxPooling2D) -> StepNode:
        before = self._only_consumer(node)
        if before is not None and _takes_pool(before, step):
            assert isinstance(before.layer, FusedConv2D)
            return Node(replace(before.layer, pool=True), before.inputs, node.sample_shape)
        before = self.made[node.inputs[0]]
        pad = before.layer
        if isinstance(pad, ZeroPadding2D) and before.inputs[0].layer.nonnegative and _takes_padding(step, pad):
            return Node(replace(step, extra=pad.padding), before.inputs, node.sample_shape)
        return self._same(node)


def _leave_to_readers(outputs: Sequence[StepNode]) -> list[StepNode]:
    nodes = topological(outputs)
    counts = consumer_counts(nodes, outputs)
    convolved_by = {node.inputs[-1]: node for node in nodes if isinstance(node.layer, FusedConv2D)}
    made: dict[StepNode, StepNode] = {}
    for node in nodes:
        step, inputs = node.layer, [made[x] for x in node.inputs]
        if isinstance(step, FusedConv2D):
            before = inputs[-1].layer
            prologue = before.norm if isinstance(before, FusedConv2D) and before.left_to_reader else None
            leaves = counts[node] == 1 and node in convolved_by and _makes_statistics(step) and not step.residual
            step = replace(step, prologue=prologue, left_to_reader=leaves)
        changed = step is not node.layer or tuple(inputs) != node.inputs
        made[node] = Node(step, inputs, node.sample_shape) if changed else node
    return [made[node] for node in outputs]


def _makes_statistics(step: FusedConv2D) -> bool:
    return step.norm is not None and step.norm.batch_statistics and not step.folds


def _within(padding: Padding, window: Pair) -> bool:
    """Return whether every window that a padded side allows still touches the picture."""
    return all(max(sides) < extent for sides, extent in zip(padding, window, strict=True))


def _takes_padding(pool: FusedMaxPooling2D, pad: ZeroPadding2D) -> bool:
    return _within(pad.padding, pool.layer.pool_size) and pool.layer.padding == "valid"


def _plain(step: FusedConv2D) -> bool:
    return not (step.norm or step.residual or step.relu or step.pool)


def _takes_residual(before: StepNode, residual: StepNode) -> bool:
    step = before.layer
    if isinstance(step, FusedConv2D):
        return not (step.residual or step.relu or step.pool)
    # one operation writes both gradients, so they must not be those of one node
    return (
        isinstance(step, FusedBatchNormalization)
        and not (step.residual or step.relu)
        and residual is not before.inputs[-1]
    )


def _takes_pool(before: StepNode, pool: FusedMaxPooling2D) -> bool:
    step, layer = before.layer, pool.layer
    if not isinstance(step, FusedConv2D) or step.residual or step.pool or (step.norm and not step.folds):
        return False
    H, W, _ = before.sample_shape
    padding_free = layer.padding == "valid" or (H % 2 == 0 and W % 2 == 0)
    return layer.pool_size == layer.strides == (2, 2) and padding_free
