"""Nodes and the orders of a graph."""

from __future__ import annotations

import pytest

from fastcnn.graph import Node, consumer_counts, layers_by_depth, topological


def diamond() -> dict[str, Node[str]]:
    x = Node("x", (), (4,))
    a, b = Node("a", (x,), (4,)), Node("b", (x,), (4,))
    c = Node("c", (b,), (4,))
    return {"x": x, "a": a, "b": b, "c": c, "y": Node("y", (a, c), (2,))}


def test_a_node_shows_keras_form():
    node = Node("conv", (), (8, 8, 3))
    assert node.shape == (None, 8, 8, 3)
    assert node.dtype == "float32"
    assert node.name == "conv"
    assert repr(node) == "<Node conv (None, 8, 8, 3)>"


def test_topological_order_lists_inputs_first_and_each_node_once():
    nodes = diamond()
    order = topological([nodes["y"]])
    assert [node.layer for node in order] == ["x", "a", "b", "c", "y"]
    assert topological([nodes["a"], nodes["y"]])[:2] == [nodes["x"], nodes["a"]]


def test_topological_order_of_a_long_chain_does_not_recurse():
    node = Node(0, (), (1,))
    for i in range(5000):
        node = Node(i + 1, (node,), (1,))
    assert [n.layer for n in topological([node])] == list(range(5001))


def test_consumers_are_counted_with_outputs():
    nodes = diamond()
    counts = consumer_counts(list(nodes.values()), [nodes["y"], nodes["a"]])
    assert {name: counts[node] for name, node in nodes.items()} == {"x": 2, "a": 2, "b": 1, "c": 1, "y": 1}


def test_layers_by_depth_is_keras_order():
    # a ResNet block: the shortcut's convolution and normalisation stand beside the last ones of the main path
    x = Node("input", (), (4,))
    shortcut = Node("0_bn", (Node("0_conv", (x,), (4,)),), (4,))
    main = x
    for i in (1, 2):
        for part in ("conv", "bn", "relu"):
            main = Node(f"{i}_{part}", (main,), (4,))
    main = Node("3_bn", (Node("3_conv", (main,), (4,)),), (4,))
    out = Node("out", (Node("add", (shortcut, main), (4,)),), (4,))
    assert layers_by_depth([out]) == [
        *("input", "1_conv", "1_bn", "1_relu", "2_conv", "2_bn", "2_relu"),
        *("0_conv", "3_conv", "0_bn", "3_bn", "add", "out"),
    ]


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_shared_layer_is_listed_once(calls):
    node = Node("input", (), (4,))
    for _ in range(calls):
        node = Node("shared", (node,), (4,))
    assert layers_by_depth([Node("out", (node,), (4,))]) == ["input", "shared", "out"]
