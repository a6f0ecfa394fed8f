"""Fused and unfused programs against the same graph in float64, forward and backward, in memory full of NaN."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from fastcnn import layers, liveness, reference
from fastcnn.fuse import fuse, lower
from fastcnn.graph import Node, topological
from fastcnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    ChannelPadding,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
    Normalization,
    ReLU,
    Rescaling,
    Softmax,
    ZeroPadding2D,
)
from fastcnn.layers.conv import FusedConv2D
from fastcnn.layers.norm import FusedBatchNormalization
from fastcnn.layers.pointwise import BoundedReLU
from fastcnn.losses import CategoricalCrossentropy
from fastcnn.models import Model
from fastcnn.models.penalties import Penalties
from fastcnn.models.state import TrainingState
from fastcnn.models.workspace import Workspace
from fastcnn.optimizers import SGD
from fastcnn.program import Packer, Recipe
from fastcnn.regularizers import L1L2, L2

CLASSES = 3
BATCH = 5
LOSS = CategoricalCrossentropy()


# -- the nets ----------------------------------------------------------------------------------------------------------


def plain(x):
    x = Conv2D(4, 3, padding="same", activation="relu")(x)
    x = Conv2D(5, 3, padding="same", activation="relu")(x)
    x = MaxPooling2D()(x)
    x = Conv2D(6, 3, strides=2, dilation_rate=1)(x)
    x = Flatten()(x)
    return Dense(7, activation="relu")(x)


def residual(x):
    x = ZeroPadding2D(3)(x)
    x = Conv2D(4, 7, strides=2)(x)
    x = ReLU()(BatchNormalization(epsilon=1e-3)(x))
    x = MaxPooling2D(3, strides=1)(ZeroPadding2D(1)(x))
    shortcut = BatchNormalization()(Conv2D(6, 1)(x))
    y = Activation("relu")(BatchNormalization()(Conv2D(3, 1)(x)))
    y = Activation("relu")(BatchNormalization(scale=False)(Conv2D(3, 3, padding="same")(y)))
    y = BatchNormalization(center=False)(Conv2D(6, 1, use_bias=False)(y))
    x = Activation("relu")(Add()([shortcut, y]))
    y = ReLU()(BatchNormalization()(Conv2D(3, 1)(x)))
    y = BatchNormalization()(Conv2D(6, 3, padding="same")(y))
    x = ReLU()(Add()([y, x]))
    return GlobalAveragePooling2D()(x)


def without_norm(x):
    x = Conv2D(4, 3, padding="same", activation="relu")(x)
    y = Conv2D(4, 3, padding="same", activation="relu")(x)
    y = Conv2D(4, 3, padding="same")(y)
    x = ReLU()(Add()([x, y]))
    x = Add()([x, Conv2D(4, 1)(x)])  # the convolved input is the residual
    pooled = Conv2D(4, 1)(AveragePooling2D(2)(x))  # whose input nobody else keeps
    return Flatten()(Add()([MaxPooling2D(2)(x), pooled]))


def preactivation(x):
    x = Conv2D(4, 3, padding="same")(x)
    y = ReLU()(BatchNormalization()(x))  # x has two consumers: nothing folds into the convolution
    y = Conv2D(4, 3, padding="same")(y)
    x = Add()([x, y])
    x = ReLU()(BatchNormalization()(x))
    x = Add()([BatchNormalization()(MaxPooling2D(2)(x)), AveragePooling2D(2)(x)])
    return Flatten()(GlobalAveragePooling2D(keepdims=True)(x))


def shared_layers(x):
    conv, norm = Conv2D(4, 3, padding="same"), BatchNormalization(momentum=0.8)
    x = Conv2D(4, 1)(x)
    for _ in range(2):
        x = ReLU()(norm(conv(x)))
    x = Flatten()(MaxPooling2D(4)(x))
    dense = Dense(16)
    return dense(ReLU()(dense(x)))


def odd_sums(x):
    x = Conv2D(4, 3, padding="same")(x)
    y = ReLU()(x)
    z = ReLU()(Rescaling(-0.5, 0.25)(x))
    x = Add()([y, y])
    x = Add()([x, z, y])
    x = Activation("linear")(x)
    x = Add()([Flatten()(x), Flatten()(z)])
    x = Softmax()(Dense(6)(x))
    return Add()([Dense(4)(x), Dense(4)(x), Dense(4)(x)])


def nested(x):
    inner = Input((4, 4, 5))
    block = Model(inner, ReLU()(Add()([inner, BatchNormalization()(Conv2D(5, 3, padding="same")(inner))])))
    x = Conv2D(5, 3, strides=2, padding="same")(x)
    x = block(block(x))
    return Flatten()(x)


def odd_sizes(x):
    x = ZeroPadding2D(((1, 0), (0, 2)))(x)
    y = Conv2D(3, 3, padding="same", strides=2, activation="relu")(x)  # "same" behind padding stays as written
    x = MaxPooling2D(2)(Conv2D(3, (3, 2), activation="relu")(x))
    x = MaxPooling2D(3, strides=2, padding="same")(x)
    return Dense(4)(Add()([GlobalAveragePooling2D()(x), GlobalAveragePooling2D()(y)]))


def leaky(x):
    x = LeakyReLU()(BatchNormalization()(Conv2D(4, 3, padding="same")(x)))
    y = LeakyReLU(0.1)(x)  # x has several consumers: y may not take its memory
    z = LeakyReLU(0)(Conv2D(4, 3)(ZeroPadding2D(1)(x)))
    z = Normalization(mean=[0.1, -0.2, 0.3, 0], variance=[0.5, 1, 2, 3])(z)
    x = MaxPooling2D(3, strides=1)(ZeroPadding2D(1)(LeakyReLU(0.5)(Add()([x, y, z]))))
    pooled = GlobalMaxPooling2D()(x)  # the first to write the gradient of x or to add to it
    x = Add()([Flatten()(GlobalMaxPooling2D(keepdims=True)(Conv2D(4, 1)(x))), pooled])
    return LeakyReLU()(Dense(5)(x))


def concatenated(x):
    x = Conv2D(4, 3, padding="same", activation="relu")(x)
    y = Conv2D(3, 1)(x)
    y = Concatenate()([x, y, x])  # a gradient is added to twice
    z = Concatenate(axis=1)([Conv2D(11, 1)(y), Conv2D(11, 3, padding="same")(y)])
    z = Add()([ReLU()(z), ChannelPadding((1, 6))(Concatenate(-3)([x, x]))])
    z = Concatenate(2)([z, ChannelPadding(7)(ReLU()(Concatenate(axis=-3)([x, x])))])
    return Concatenate()([GlobalAveragePooling2D()(z), Dense(3)(Flatten()(y)), GlobalMaxPooling2D()(x)])


def regularized(x):
    twice = Dropout(0.25, name="twice")
    x = Conv2D(6, 3, kernel_regularizer=L2(0.02), bias_regularizer="l1")(x)
    x = ReLU(6.0)(BatchNormalization(gamma_regularizer=L1L2(0.03, 0.01), beta_regularizer=L2(0.5))(x))
    x = Add()([twice(x), twice(x), Dropout(0.5, seed=3)(x)])  # gradients are added to
    x = ReLU(2.0, negative_slope=0.5, threshold=0.25)(Conv2D(4, 1, activation="leaky_relu")(x))
    x = MaxPooling2D(3, strides=1)(ZeroPadding2D(1)(ReLU(threshold=0.125)(x)))
    x = Dropout(0.3, name="flat")(Flatten()(ReLU(negative_slope=0.5)(x)))
    dense = Dense(144, kernel_regularizer=L1L2(0.001, 0.01), activation="relu6")
    return Dense(5, bias_regularizer=L2(1.0))(dense(Dropout(0.0)(dense(x))))


def random_net(seed: int) -> Callable[[Node], Node]:
    """A graph whose nodes are all [8, 8, 4] and read any of the last few."""

    def net(x):
        rng = random.Random(seed)
        nodes = [Conv2D(4, 1)(x)]

        def one():
            return rng.choice(nodes[-4:])

        makers = [
            lambda: Conv2D(4, rng.choice([1, 3]), padding="same", activation=rng.choice([None, "relu"]))(one()),
            lambda: Conv2D(4, 3)(ZeroPadding2D(1)(one())),
            lambda: BatchNormalization()(one()),
            lambda: BatchNormalization()(Conv2D(4, 1, use_bias=False)(one())),
            lambda: ReLU()(one()),
            lambda: ReLU(1.5, negative_slope=rng.choice([0.0, 0.25]), threshold=0.25)(one()),
            lambda: Dropout(0.25, seed=seed)(one()),
            lambda: Add()([one() for _ in range(rng.choice([2, 2, 3]))]),
            lambda: MaxPooling2D(3, strides=1)(ZeroPadding2D(1)(ReLU()(one()))),
            lambda: AveragePooling2D(3, strides=1, padding="same")(one()),
            lambda: Rescaling(rng.choice([-1.0, 0.5]), 0.1)(one()),
            lambda: ChannelPadding((1, 2))(Conv2D(1, 1)(one())),
            lambda: Conv2D(4, 1)(Concatenate()([one(), one()])),
        ]
        for _ in range(rng.randrange(6, 16)):
            made = rng.choice(makers)()
            nodes.append(made)
        pool = rng.choice([AveragePooling2D, MaxPooling2D])
        return Flatten()(pool(4)(Add()([nodes[-1], one(), nodes[-2]])))

    net.__name__ = f"random{seed}"
    return net


NETS = [
    plain,
    residual,
    without_norm,
    preactivation,
    shared_layers,
    odd_sums,
    nested,
    odd_sizes,
    leaky,
    concatenated,
    regularized,
]


def make(net: Callable[[Node], Node], seed: int = 0) -> Model:
    inputs = Input((8, 8, 3))
    model = Model(inputs, Dense(CLASSES, activation="softmax")(net(inputs)))
    rng = np.random.default_rng(seed)
    for parameter in model.weights:
        value = rng.uniform(-0.6, 0.6, parameter.shape)
        if parameter.name in ("gamma", "moving_variance", "variance"):
            value = rng.uniform(0.5, 1.5, parameter.shape)
        if parameter in model.layers[-1].weights:
            value *= 0.05  # no probability so small that the loss clips it
        parameter.assign(value.astype(np.float32))
    return model


def some_data(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((BATCH, 8, 8, 3)).astype(np.float32)
    t = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH)]
    return x, t, rng.uniform(0.1, 1.0, BATCH).astype(np.float32)


# -- the same graph in float64 -----------------------------------------------------------------------------------------


class Reference:
    """Runs the unfused steps of a graph with `fastcnn.reference`; `values` maps parameters to float64 arrays."""

    def __init__(self, model: Model, trained: frozenset) -> None:
        self.nodes = topological(lower(model.outputs, trained))
        self.values = {p: p.value.astype(np.float64) for p in model.weights}
        self.penalized = [p for layer in trained for p in layer.trainable_weights if p.regularizer is not None]
        self.calls: Counter[Dropout] = Counter()
        self.moving = dict(self.values)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.moving = dict(self.values)
        self.calls.clear()
        made: dict[Node, np.ndarray] = {}
        for node in self.nodes:
            inputs = [made[source] for source in node.inputs]
            made[node] = self.step(node.layer, *inputs) if inputs else x.astype(np.float64)
            assert made[node].shape[1:] == node.sample_shape
        return made[self.nodes[-1]]

    def loss(self, x: np.ndarray, t: np.ndarray, weight: np.ndarray) -> float:
        penalty = sum(p.regularizer(self.values[p]) for p in self.penalized)
        return float(reference.categorical_crossentropy(self(x), t) @ weight.astype(np.float64)) + penalty

    def step(self, step: object, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
        layer = getattr(step, "layer", step)
        value = self.values
        if isinstance(layer, Conv2D):
            b = None if layer.bias is None else value[layer.bias]
            return reference.conv2d_forward(
                x,
                value[layer.kernel],
                b,
                strides=layer.strides,
                padding=layer.sides(x.shape[1:]),
                dilation=layer.dilation_rate,
            )
        if isinstance(layer, Dense):
            return reference.dense_forward(x, value[layer.kernel], value[layer.bias])
        if isinstance(step, FusedBatchNormalization):
            return self.norm(step, x)
        if isinstance(layer, MaxPooling2D):
            padding = layer.sides(x.shape[1:])
            return reference.max_pool_forward(x, layer.pool_size, layer.strides, padding)[0]
        if isinstance(layer, AveragePooling2D):
            return reference.average_pool_forward(x, layer.pool_size, layer.strides, layer.sides(x.shape[1:]))
        if isinstance(layer, GlobalAveragePooling2D):
            y = reference.global_average_pool_forward(x)
            return y[:, None, None] if layer.keepdims else y
        if isinstance(layer, GlobalMaxPooling2D):
            y, _ = reference.global_max_pool_forward(x)
            return y[:, None, None] if layer.keepdims else y
        if isinstance(layer, ZeroPadding2D):
            return reference.zero_pad_forward(x, layer.padding)
        if isinstance(layer, Flatten):
            return x.reshape(len(x), -1)
        if isinstance(step, BoundedReLU):
            limit = np.inf if layer.max_value is None else layer.max_value
            return reference.bounded_relu_forward(x, limit, layer.negative_slope, layer.threshold)
        if isinstance(layer, Dropout):
            self.calls[layer] += 1
            return reference.dropout(x, (layer.random_key(self.calls[layer] - 1), 0), layer.rate)
        if isinstance(layer, ReLU):
            return reference.relu_forward(x)
        if isinstance(layer, LeakyReLU):
            return reference.leaky_relu_forward(x, layer.negative_slope)
        if isinstance(layer, Softmax):
            return reference.softmax_forward(x)
        if isinstance(layer, Rescaling):
            return x * layer.scale + layer.offset
        if isinstance(layer, Concatenate):
            return reference.concatenate_forward([x, *more], layer.axis)
        if isinstance(layer, ChannelPadding):
            return np.pad(x, [(0, 0)] * (x.ndim - 1) + [layer.padding])
        assert isinstance(layer, Add)
        return sum(more, x)

    def norm(self, step: FusedBatchNormalization, x: np.ndarray) -> np.ndarray:
        layer = step.layer
        channels = x.shape[-1:]
        gamma = np.ones(channels) if layer.gamma is None else self.values[layer.gamma]
        beta = np.zeros(channels) if layer.beta is None else self.values[layer.beta]
        if not step.batch_statistics:
            mean, variance = self.values[layer.moving_mean], self.values[layer.moving_variance]
            return reference.batchnorm_inference(x, gamma, beta, mean, variance, layer.epsilon)
        for parameter, batch in zip(
            (layer.moving_mean, layer.moving_variance), reference.batchnorm_statistics(x), strict=True
        ):
            self.moving[parameter] = reference.batchnorm_moving_average(self.moving[parameter], batch, layer.momentum)
        return reference.batchnorm_forward(x, gamma, beta, layer.epsilon)[0]


def run_engine(model: Model, trained: frozenset, fused: bool, data, rate: float = 0.0, recompute: bool = False):
    """Return (loss, gradients by parameter, recipe) of one training step in NaN-poisoned memory."""
    x, t, weight = data
    recipe = Recipe(model.outputs, trained=trained, loss=LOSS, fused=fused, recompute=recompute)
    parameters = [p for p in model.weights if p in recipe.trained_parameters]
    state = TrainingState(SGD(rate), parameters, recipe.norms, recipe.repeated_norms)
    workspace = Workspace(Packer(kept=True))
    program = workspace.program("training", len(x), recipe, state)
    workspace.poison()
    state.gradients.fill(np.nan)
    program.x[...] = x
    program.cache["t"][...] = t
    program.cache["weight"][...] = weight
    program.compute()
    gradients = {p: state.gradient(p).copy() for p in parameters}
    loss = float(program.cache["loss"].astype(np.float64) @ weight) + Penalties(parameters).total()
    program.update()
    return loss, gradients, recipe


def assert_slopes(gradients, exact: Reference, data, places_of_each: int) -> None:
    """Compare some elements of every gradient with central differences in float64."""
    rng = np.random.default_rng(2)
    largest = max((float(np.abs(g).max()) for g in gradients.values()), default=0.0)
    for parameter, gradient in gradients.items():
        assert np.isfinite(gradient).all(), parameter.path
        value = exact.values[parameter].reshape(-1)
        for place in rng.choice(parameter.size, min(places_of_each, parameter.size), replace=False):
            before, eps = value[place], 1e-6
            value[place] = before + eps
            above = exact.loss(*data)
            value[place] = before - eps
            slope = (above - exact.loss(*data)) / (2 * eps)
            value[place] = before
            assert_close(gradient.reshape(-1)[place], np.array(slope), parameter.path, scale=largest)


def assert_close(result: np.ndarray, expected: np.ndarray, what: str, scale: float = 0.0) -> None:
    """Compare in units of the largest element: sums of thousands of float32 terms of that size."""
    largest = max(float(np.abs(expected).max()), scale)
    error = float(np.abs(result - expected).max())
    assert error <= 3e-5 * largest, f"{what}: {error:.3g} of {largest:.3g}"


def layers_of(model: Model, frozen: tuple[type, ...] = ()) -> frozenset:
    return frozenset(layer for layer in model.flat_layers() if not isinstance(layer, frozen))


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("frozen", [(), (BatchNormalization,), (Conv2D,)], ids=["all", "no-norm", "no-conv"])
@pytest.mark.parametrize("net", [*NETS, *map(random_net, range(30))])
def test_recomputing_changes_no_bit(net, frozen, steps, monkeypatch):
    """Segments of any length; losses, gradients and moving statistics are those of keeping everything."""

    def divisions(crossing, inside):
        return [tuple(range(i, min(i + steps, len(inside))) for i in range(0, len(inside), steps))]

    monkeypatch.setattr(liveness, "divisions", divisions)
    found = []
    for recompute in (False, True):
        model = make(net)
        loss, gradients, recipe = run_engine(
            model, layers_of(model, frozen), steps % 2 == 1, some_data(), 0.1, recompute
        )
        found.append((loss, [g.tobytes() for g in gradients.values()], [w.tobytes() for w in model.get_weights()]))
    assert found[0] == found[1]
    assert recipe._schedule.again or frozen or steps == 5


def test_every_layer_is_in_a_net():
    used = {type(layer) for net in NETS for layer in make(net).flat_layers()}
    in_programs = {layer for layer in layers.CLASSES.values() if not layer.random}  # the others: tests/test_augment.py
    assert used >= in_programs


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("net", NETS)
def test_inference_equals_the_reference(net, fused):
    model = make(net)
    x = some_data()[0]
    workspace = Workspace(Packer(kept=True))
    program = workspace.program("inference", BATCH, Recipe(model.outputs, fused=fused))
    workspace.poison()
    assert_close(program.predict(x)[0], Reference(model, frozenset())(x), "output")


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize(
    "frozen", [(), (BatchNormalization,), (Conv2D,), (Conv2D, Dense)], ids=["all", "no-norm", "no-conv", "norm-only"]
)
@pytest.mark.parametrize("net", NETS)
def test_gradients_equal_finite_differences(net, frozen, fused):
    model = make(net)
    data = some_data()
    trained = layers_of(model, frozen)
    exact = Reference(model, trained)
    expected_loss = exact.loss(*data)
    moving = {p: exact.moving[p] for p in model.non_trainable_weights}
    trainable = {p for layer in trained for p in layer.weights if p.trainable}
    loss, gradients, _ = run_engine(model, trained, fused, data)
    assert set(gradients) == trainable
    assert_close(np.array(loss), np.array(expected_loss), "loss")

    assert_slopes(gradients, exact, data, places_of_each=2)
    for parameter, value in moving.items():
        assert_close(parameter.value, value, parameter.path)


@pytest.mark.parametrize("frozen", [(), (BatchNormalization,)], ids=["all", "no-norm"])
@pytest.mark.parametrize("seed", range(20))
def test_random_nets(seed, frozen):
    model = make(random_net(seed), seed)
    data = some_data(seed)
    workspace = Workspace(Packer(kept=True))
    program = workspace.program("inference", BATCH, Recipe(model.outputs))
    workspace.poison()
    assert_close(program.predict(data[0])[0], Reference(model, frozenset())(data[0]), "output")
    trained = layers_of(model, frozen)
    exact = Reference(model, trained)
    loss, gradients, _ = run_engine(model, trained, True, data)
    assert_close(np.array(loss), np.array(exact.loss(*data)), "loss")
    assert_slopes(gradients, exact, data, places_of_each=1)


@pytest.mark.parametrize("net", NETS)
def test_fused_equals_unfused(net):
    data = some_data()
    results = []
    for fused in (True, False):
        model = make(net)
        _, gradients, recipe = run_engine(model, layers_of(model), fused, data)
        results.append((list(gradients.values()), len(recipe.nodes)))
    largest = max(float(np.abs(g).max()) for g in results[1][0])
    for mine, other in zip(results[0][0], results[1][0], strict=True):
        assert_close(mine, other, "gradient", scale=largest)
    assert results[0][1] <= results[1][1]


def steps(model: Model, trained: frozenset = frozenset()) -> list[str]:
    return [type(node.layer).__name__ for node in topological(fuse(lower(model.outputs, trained)))]


def test_a_residual_net_becomes_convolutions():
    model = make(residual)
    assert steps(model) == [
        "InputLayer",
        "FusedConv2D",
        "FusedMaxPooling2D",
        *["FusedConv2D"] * 6,
        *("GlobalAveragePooling2D", "FusedDense", "Softmax"),
    ]
    assert steps(model, layers_of(model)) == steps(model)
    fused = topological(fuse(lower(model.outputs, frozenset())))
    convs = [node.layer for node in fused if isinstance(node.layer, FusedConv2D)]
    assert all(conv.folds for conv in convs)
    assert [conv.relu for conv in convs] == [True, False, True, True, True, True, True]
    assert [conv.residual for conv in convs] == [False, False, False, False, True, False, True]
    assert convs[0].extra == ((3, 3), (3, 3))


def test_pooling_goes_into_the_convolution_only_where_it_is_2x2():
    assert steps(make(plain)).count("FusedMaxPooling2D") == 0
    assert steps(make(odd_sizes)).count("FusedMaxPooling2D") == 1
    assert steps(make(odd_sizes)).count("ZeroPadding2D") == 1  # the "same" convolution needs it as it is


def test_padding_stays_in_front_of_a_pool_whose_input_may_be_negative():
    x = Input((4, 4, 2))
    model = Model(x, MaxPooling2D(3)(ZeroPadding2D(1)(Conv2D(2, 1)(x))))
    assert steps(model) == ["InputLayer", "FusedConv2D", "ZeroPadding2D", "FusedMaxPooling2D"]
    model.set_weights([np.full((1, 1, 2, 2), -1.0), np.zeros(2)])
    assert model.predict(np.ones((1, 4, 4, 2))).max() == 0


def test_an_output_is_never_fused_away_or_overwritten():
    x = Input((4, 4, 2))
    conv = Conv2D(2, 1)(x)
    norm = BatchNormalization()(conv)
    model = Model(x, [conv, norm, ReLU()(norm)])
    data = np.random.default_rng(0).standard_normal((3, 4, 4, 2))
    outputs = model.predict(data)
    assert len(outputs) == 3
    assert outputs[0].min() < 0
    assert np.array_equal(outputs[2], np.maximum(outputs[1], 0))
    kernel, _ = model.get_layer(conv.name).get_weights()
    assert_close(outputs[0], data @ kernel[0, 0], "convolution")


def test_folding_stops_where_a_gradient_must_pass():
    model = make(residual)
    trained = layers_of(model, (BatchNormalization,))
    first = next(node.layer for node in topological(fuse(lower(model.outputs, trained))) if node.inputs)
    assert isinstance(first, FusedConv2D)
    assert first.norm is not None
    assert not first.folds
    head = frozenset([model.layers[-1]])
    nodes = topological(fuse(lower(model.outputs, head)))
    assert all(node.layer.folds for node in nodes if isinstance(node.layer, FusedConv2D))


def test_a_normalisation_is_left_to_the_only_convolution_that_reads_it():
    model = make(residual)
    trained = layers_of(model)
    convs = fused_convolutions(model.outputs, trained)
    given = [conv.norm for conv in convs if conv.left_to_reader]
    assert [conv.prologue for conv in convs if conv.prologue] == given
    # inside the blocks, but not the stem's, which pooling reads, nor the shortcut's and the last ones, which are added
    assert [norm.layer.name for norm in given if norm] == [
        layer.name
        for layer, follower in zip(model.layers, model.layers[2:], strict=False)
        if isinstance(layer, BatchNormalization) and isinstance(follower, Conv2D)
    ]
    assert len(given) == 3
    assert not any(conv.left_to_reader for conv in fused_convolutions(model.outputs, trained=frozenset()))
    both = Model(model.input, [*model.outputs, given[0].layer.output])
    assert len([conv for conv in fused_convolutions(both.outputs, trained) if conv.left_to_reader]) == 2


def fused_convolutions(outputs, trained):
    return [n.layer for n in topological(fuse(lower(outputs, trained))) if isinstance(n.layer, FusedConv2D)]


def test_nothing_runs_backward_below_the_lowest_trained_layer():
    model = make(residual)
    recipe = Recipe(model.outputs, trained=frozenset([model.layers[-1]]), loss=LOSS)
    state = TrainingState(SGD(), model.layers[-1].weights, recipe.norms)
    program = Workspace(Packer(kept=True)).program("training", BATCH, recipe, state)
    names = program.emitter.steps
    assert names[names.index("softmax_cross_entropy") + 1 :] == ["bias_backward", "dense_backward_weights", "sgd_step"]


def test_a_call_with_training_false_keeps_the_statistics():
    inner = Input((8, 8, 3))
    norm = BatchNormalization()
    base = Model(inner, norm(inner))
    x = Input((8, 8, 3))
    model = Model(x, Dense(CLASSES, activation="softmax")(GlobalAveragePooling2D()(base(x, training=False))))
    norm.set_weights([np.full(3, value) for value in (1.5, 0.5, 0.25, 2.0)])
    data = some_data()
    trained = layers_of(model)
    expected = Reference(model, trained).loss(*data)
    loss, gradients, _ = run_engine(model, trained, True, data, rate=0.1)
    assert_close(np.array(loss), np.array(expected), "loss", scale=1)
    assert norm.gamma in gradients
    assert np.array_equal(norm.moving_mean.value, np.full(3, 0.25, np.float32))
