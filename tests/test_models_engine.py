"""Models as graphs: construction, weights, configuration, nesting, programs and their memory."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
import threading

import numpy as np
import pytest

from fastcnn import _core, config
from fastcnn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
    ReLU,
)
from fastcnn.models import Model, Sequential
from fastcnn.models.workspace import IDLE, PROGRAMS

RNG = np.random.default_rng(0)


def residual_model(size: int = 8, classes: int = 3) -> Model:
    inputs = Input((size, size, 3), name="picture")
    x = Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = ReLU(name="stem_relu")(BatchNormalization(name="stem_bn")(x))
    y = ReLU(name="relu1")(BatchNormalization(name="bn1")(Conv2D(4, 3, padding="same", name="conv1")(x)))
    y = BatchNormalization(name="bn2")(Conv2D(4, 3, padding="same", name="conv2")(y))
    x = ReLU(name="out_relu")(Add(name="add")([x, y]))
    x = GlobalAveragePooling2D(name="avg_pool")(x)
    return Model(inputs, Dense(classes, activation="softmax", name="predictions")(x), name="tiny")


def pictures(count: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, size, size, 3)).astype(np.float32)


# -- graph and weights -------------------------------------------------------------------------------------------------


def test_layers_are_found_by_name_and_number():
    model = residual_model()
    assert [layer.name for layer in model.layers][:4] == ["picture", "stem", "stem_bn", "stem_relu"]
    assert model.get_layer("conv1") is model.layers[4]
    assert model.get_layer(index=-1).name == "predictions"
    assert model.input_shape == (None, 8, 8, 3)
    assert model.output_shape == (None, 3)
    assert model.inputs[0] is model.input
    assert model.outputs[0] is model.output
    with pytest.raises(ValueError, match="tiny has no layer 'conv9'; it has picture, stem"):
        model.get_layer("conv9")
    with pytest.raises(ValueError, match="tiny has 13 layers, got index 13"):
        model.get_layer(index=13)
    with pytest.raises(ValueError, match="either name or index"):
        model.get_layer()


def test_weights_are_counted_and_listed_layer_by_layer():
    model = residual_model()
    assert model.count_params() == 3 * 3 * 3 * 4 + 4 + 2 * (3 * 3 * 4 * 4 + 4) + 3 * 16 + 4 * 3 + 3
    assert [w.path for w in model.weights][:6] == [
        *("stem/kernel", "stem/bias"),
        *("stem_bn/gamma", "stem_bn/beta", "stem_bn/moving_mean", "stem_bn/moving_variance"),
    ]
    assert len(model.trainable_weights) == 14
    assert len(model.non_trainable_weights) == 6
    weights = model.get_weights()
    other = residual_model()
    other.set_weights(weights)
    assert np.array_equal(other.predict(pictures(3)), model.predict(pictures(3)))
    with pytest.raises(ValueError, match="tiny has 20 weights but 19 arrays"):
        other.set_weights(weights[:-1])


def test_all_weights_of_a_model_lie_in_one_vector():
    model = residual_model()
    model.get_layer("conv2").set_weights([np.zeros((3, 3, 4, 4)), np.zeros(4)])
    stores = {w.store for w in model.weights}
    assert len(stores) == 1
    grown = Sequential([Dense(4, input_shape=(3,)), Dense(5), Dense(6)])
    assert len({w.store for w in grown.weights}) == 1


def test_freezing_a_model_freezes_its_layers():
    model = residual_model()
    model.trainable = False
    assert model.trainable_weights == []
    assert not model.get_layer("conv1").trainable
    model.get_layer("conv1").trainable = True
    assert [w.path for w in model.trainable_weights] == ["conv1/kernel", "conv1/bias"]
    assert not Model(model.input, model.output, trainable=False).get_layer("conv1").trainable


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x, y: Model(x, y(x)), ValueError, "the name 'twice' is used by 2 layers"),
        (lambda x, y: Model([x, Input((4,))], x), ValueError, "inputs must be one tensor, got 2"),
        (lambda x, y: Model(Input((4,)), ReLU()(x)), ValueError, "depend on 'in', which is not among the inputs"),
        (lambda x, y: Model(x, Input((4,), name="in")), ValueError, "depend on 'in', which is not among the inputs"),
        (lambda x, y: Model(x, []), ValueError, "outputs must not be empty"),
        (lambda x, y: Model(x, 3), TypeError, "outputs must be outputs of layers or of Input, got 3"),
        (lambda x, y: Model(x, [3]), TypeError, "outputs must be outputs of layers or of Input, got 3"),
    ],
)
def test_graphs_that_are_none_are_refused(make, error, message):
    def twice(x):
        return Dense(4, name="twice")(Dense(4, name="twice")(x))

    with pytest.raises(error, match=re.escape(message)):
        make(Input((4,), name="in"), twice)


def test_a_model_may_begin_and_end_inside_another():
    model = residual_model()
    x = pictures(2)
    features = Model(model.input, model.get_layer("add").output)
    head = Model(model.get_layer("add").output, model.output)
    assert features.get_layer("conv1") is model.get_layer("conv1")
    found = features.predict(x)
    assert found.shape == (2, 8, 8, 4)
    np.testing.assert_allclose(head.predict(found), model.predict(x), rtol=1e-5)


def test_models_that_share_layers_share_weights():
    model = residual_model()
    features = Model(model.input, model.get_layer("stem").output)
    x = pictures(2)
    before = features.predict(x), model.predict(x)
    model.get_layer("stem").set_weights([np.zeros((3, 3, 3, 4)), np.ones(4)])
    assert (features.predict(x) == 1).all()
    assert not np.array_equal(model.predict(x), before[1])


def test_a_model_can_be_a_layer():
    base = residual_model()
    feature = Model(base.input, base.get_layer("avg_pool").output, name="base")
    whole = Sequential([feature, Dense(5, activation="softmax", name="head")])
    x = Input((8, 8, 3))
    functional = Model(x, whole.layers[1](feature(x)))
    data = pictures(3)
    assert np.array_equal(whole.predict(data), functional.predict(data))
    assert whole.count_params() == feature.count_params() + 4 * 5 + 5
    assert [layer.name for layer in whole.layers] == ["base", "head"]
    feature.trainable = False
    assert [w.path for w in whole.trainable_weights] == ["head/kernel", "head/bias"]
    with pytest.raises(ValueError, match=re.escape("base: takes samples [8, 8, 3], got [[8, 8, 1]]")):
        feature(Input((8, 8, 1)))


def test_a_model_called_with_an_array_predicts():
    model = residual_model()
    assert np.array_equal(model(pictures(2), training=False), model.predict(pictures(2)))
    with pytest.raises(ValueError, match="training=True is not supported for arrays"):
        model(pictures(2), training=True)


# -- Sequential --------------------------------------------------------------------------------------------------------


def chain() -> list[Layer]:
    return [Conv2D(4, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(3, activation="softmax")]


def test_sequential_takes_its_shape_from_input_or_the_first_layer_or_build_or_data():
    x = pictures(2)
    models = [
        Sequential([Input((8, 8, 3)), *chain()]),
        Sequential([Conv2D(4, 3, activation="relu", input_shape=(8, 8, 3)), *chain()[1:]]),
        Sequential(chain()),
        Sequential(chain()),
    ]
    assert models[0].built
    assert models[1].built
    assert not models[2].built
    with pytest.raises(ValueError, match="the weights do not exist before the input shape is known"):
        _ = models[2].weights
    assert models[2].build((None, 8, 8, 3)) == (3,)
    for model in models:
        assert model.predict(x).shape == (2, 3)
        assert model.count_params() == 3 * 3 * 3 * 4 + 4 + 3 * 3 * 4 * 3 + 3
        assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "MaxPooling2D", "Flatten", "Dense"]
        assert model.input_shape == (None, 8, 8, 3)
        assert model.output_shape == (None, 3)


def test_sequential_grows_and_shrinks():
    model = Sequential([Input((6,))])
    model.add(Dense(4, name="first"))
    assert model.predict(np.ones((2, 6))).shape == (2, 4)
    model.add(Dense(2, name="second"))
    assert model.predict(np.ones((2, 6))).shape == (2, 2)
    assert model.pop().name == "second"
    assert model.output_shape == (None, 4)
    with pytest.raises(ValueError, match="the name 'first' is used by two layers"):
        model.add(Dense(4, name="first"))
    with pytest.raises(ValueError, match="an input layer must be the first"):
        model.add(Input((3,)))
    with pytest.raises(TypeError, match="add takes a layer, got int"):
        model.add(3)
    with pytest.raises(ValueError, match="has no layers"):
        Sequential().predict(np.ones((1, 3)))


def test_a_layer_that_does_not_fit_leaves_the_chain_as_it_was():
    model = Sequential([Input((8, 8, 3)), Conv2D(4, 3)])
    with pytest.raises(ValueError, match="put Flatten"):
        model.add(Dense(3))
    model.add(Flatten())
    assert model.output_shape == (None, 6 * 6 * 4)


# -- configuration -----------------------------------------------------------------------------------------------------


def shared_model() -> Model:
    x = Input((8, 8, 3))
    conv = Conv2D(3, 3, padding="same", name="shared")
    inner = Input((8, 8, 3))
    block = Model(inner, BatchNormalization(name="bn")(inner), name="block")
    return Model(x, [Flatten()(Add()([conv(conv(x)), block(x, training=False)])), Activation("relu")(x)], name="m")


@pytest.mark.parametrize(
    "make",
    [residual_model, shared_model, lambda: Sequential([Input((8, 8, 3)), *chain()]), lambda: Sequential(chain())],
    ids=["residual", "shared", "sequential", "unbuilt"],
)
def test_configuration_rebuilds_the_graph(make):
    model = make()
    model.layers[1].trainable = False
    stored = json.loads(json.dumps(model.get_config()))
    again = type(model).from_config(stored)
    assert again.get_config() == model.get_config()
    assert json.loads(json.dumps(again.get_config())) == stored
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert not again.layers[1].trainable
    x = pictures(2)
    expected = model.predict(x)
    again.predict(x)
    again.set_weights(model.get_weights())
    found = again.predict(x)
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one, other)


class Doubling(ReLU):
    """A caller's own layer."""


def test_custom_layers_need_their_class():
    x = Input((4,))
    model = Model(x, Doubling()(x))
    config_ = model.get_config()
    with pytest.raises(ValueError, match="'Doubling' is no layer of fastcnn nor among custom_objects"):
        Model.from_config(config_)
    again = Model.from_config(config_, {"Doubling": Doubling})
    assert isinstance(again.layers[1], Doubling)


def test_a_call_that_leads_nowhere_is_refused():
    stored = residual_model().get_config()
    stored["layers"][1]["calls"][0]["inputs"] = [["nowhere", 0]]
    with pytest.raises(ValueError, match="the inputs of 'stem' are not calls of other layers"):
        Model.from_config(stored)


# -- programs ----------------------------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_how_the_pictures_are_batched():
    model = residual_model()
    x = pictures(11)
    whole = model.predict_on_batch(x)
    assert np.array_equal(model.predict(x, batch_size=4), whole)
    assert np.array_equal(np.concatenate([model.predict_on_batch(x[i : i + 1]) for i in range(11)]), whole)
    assert np.array_equal(model.predict(iter([x[:6], (x[6:], None)]), steps=2), whole)


def test_predictions_do_not_depend_on_threads():
    model = residual_model(16)
    x = pictures(5, 16)
    with config.threads(1):
        expected = model.predict(x)
    for count in (2, 3, 5):
        with config.threads(count):
            assert np.array_equal(model.predict(x), expected)


def test_predictions_use_nothing_that_was_not_written():
    model = residual_model()
    x = pictures(6)
    expected = model.predict(x)
    for size in (6, 3, 1):
        model._poison_arena()
        assert np.array_equal(model.predict(x[:size]), expected[:size])


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: x.tolist(),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),  # read-only
    ],
)
def test_any_real_array_is_taken(convert):
    model = residual_model()
    x = RNG.integers(0, 255, (3, 8, 8, 3)).astype(np.float32)
    given = convert(x)
    assert np.array_equal(model.predict(given), model.predict(x))
    assert np.array_equal(np.asarray(given, np.float32), x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 8, 8)), ValueError, "predict: x must be [N, 8, 8, 3] but is [2, 8, 8]"),
        (np.zeros((8, 8, 3)), ValueError, "predict: x must be [N, 8, 8, 3] but is [8, 8, 3]"),
        (np.float32(3), ValueError, "predict: x must be [N, 8, 8, 3] but is []"),
        (np.zeros((2, 8, 8, 3), complex), TypeError, "predict: x must hold real numbers, got complex128"),
        (np.full((1, 8, 8, 3), "a"), TypeError, "predict: x must hold real numbers, got <U1"),
        (np.ma.zeros((1, 8, 8, 3)), TypeError, "predict: x must hold real numbers, got a masked array"),
        (7, TypeError, "predict: x must be an array, a dataset, a PyDataset or a generator, got int"),
        (iter([]), ValueError, "predict: steps must be given for a generator"),
    ],
)
def test_other_data_are_refused(x, error, message):
    with pytest.raises(error, match=re.escape(message)):
        residual_model().predict(x)


def test_no_pictures_give_no_predictions():
    assert residual_model().predict(np.zeros((0, 8, 8, 3))).shape == (0, 3)


def test_results_are_the_callers():
    model = residual_model()
    first = model.predict_on_batch(pictures(2))
    kept = first.copy()
    model.predict_on_batch(pictures(2) * 3)
    assert np.array_equal(first, kept)
    assert first.flags.owndata
    assert first.flags.writeable


def test_threads_predict_at_the_same_time():
    model = residual_model(16)
    x = pictures(4, 16)
    expected = model.predict(x)
    wrong: list[int] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            part = x[number:]
            if not np.array_equal(model.predict(part), expected[number:]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= len(model._pool.idle()) <= IDLE


def test_a_prediction_leaves_the_switch_interval_as_it_was():
    model = Sequential([Input((8, 8, 3)), Conv2D(4, 3), Flatten(), Dense(2)])
    x = np.zeros((64, 8, 8, 3), np.float32)

    def predict():
        for _ in range(50):
            model.predict_on_batch(x)

    before = sys.getswitchinterval()
    try:
        for interval in (before, 0.05, 0.0001):
            sys.setswitchinterval(interval)
            kept = sys.getswitchinterval()
            threads = [threading.Thread(target=predict) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sys.getswitchinterval() == kept
    finally:
        sys.setswitchinterval(before)


def test_ctrl_c_while_steps_run_is_a_keyboard_interrupt():
    x, y, end = np.ones(4 << 20, np.float32), np.zeros(4 << 20, np.float32), np.zeros(4 << 20, np.float32)
    program = _core.Program()
    for _ in range(20_000):  # seconds, also where the arrays stay in a cache
        program.copy(x, y)
    program.copy(x, end)
    before = sys.getswitchinterval()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            program.run()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, handler)
    assert not end.any()
    assert sys.getswitchinterval() == before


def test_programs_are_kept_within_bounds_and_memory_only_grows_for_larger_batches():
    model = residual_model()
    model.predict(pictures(20))
    (workspace,) = model._pool.idle()
    arena = workspace.nbytes[0]
    for size in range(1, 19):
        model.predict(pictures(size))
    assert model._pool.idle() == [workspace]
    assert len(workspace._programs) == PROGRAMS
    assert workspace.nbytes[0] == arena
    model.predict(pictures(30))
    assert workspace.nbytes[0] > arena
    model.release_workspace()
    assert model._pool.idle() == []
    assert model.predict(pictures(2)).shape == (2, 3)


def test_changed_weights_are_packed_again():
    model = residual_model()
    x = pictures(3)
    before = model.predict(x)
    bn = model.get_layer("bn2")
    gamma, beta, mean, variance = bn.get_weights()
    bn.set_weights([gamma * 2, beta + 1, mean - 1, variance * 3])
    after = model.predict(x)
    assert not np.array_equal(before, after)
    fresh = residual_model()
    fresh.set_weights(model.get_weights())
    assert np.array_equal(fresh.predict(x), after)


def test_another_instruction_set_makes_new_programs():
    model = residual_model()
    x = pictures(3)
    own = config.isa()
    expected = model.predict(x)
    try:
        for name in config.isas():
            config.set_isa(name)
            assert config.isa() == name
            np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5)
            (workspace,) = model._pool.idle()
            assert workspace.stamp[0] == name
    finally:
        config.set_isa(own)
    assert np.array_equal(model.predict(x), expected)


def test_forbidding_winograd_makes_new_programs():
    model = Sequential([Input((16, 16, 64)), Conv2D(64, 3, padding="same")])
    x = RNG.standard_normal((1, 16, 16, 64)).astype(np.float32)
    with_it = model.predict(x)
    config.set_winograd(False)
    try:
        without = model.predict(x)
    finally:
        config.set_winograd(True)
    assert not np.array_equal(without, with_it)
    assert np.abs(without - with_it).max() < 1e-4 * np.abs(with_it).max()
    assert np.array_equal(model.predict(x), with_it)


def test_threads_are_restored_after_the_block():
    before = config.num_threads()
    with config.threads(before + 1):
        assert config.num_threads() == before + 1

    def fail() -> None:
        with config.threads(before + 1):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert config.num_threads() == before
    with pytest.raises(ValueError, match="threads must be 1 to 128 but is 0"):
        config.set_num_threads(0)


def test_show_config_prints_what_runs(capsys):
    config.show_config()
    text = capsys.readouterr().out
    assert config.isa() in text
    assert str(config.num_threads()) in text


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_plan_counts_without_filling():
    model = residual_model()
    inference = model.memory_plan(16, training=False)
    assert inference.weights == 4 * model.count_params()
    assert inference.gradients == inference.optimizer == 0
    assert inference.total == sum(
        (inference.weights, inference.activations, inference.packed, inference.scratch),
    )
    assert model._pool.idle() == []
    assert not any(w._initialized for w in model.weights)
    model.compile("adam", "categorical_crossentropy")
    training = model.memory_plan(16)
    trainable = 4 * sum(w.size for w in model.trainable_weights)
    assert trainable <= training.gradients < trainable + 64 * 14
    assert training.optimizer == 2 * training.gradients
    assert training.activations > inference.activations
    assert model.memory_plan(32).activations > 1.9 * training.activations
    text = str(training).splitlines()
    assert text[0] == "training, batch 16"
    assert [line.split()[0] for line in text[1:]] == [
        *("weights", "gradients", "optimizer", "activations", "packed", "scratch", "total")
    ]


def test_memory_plan_says_what_it_needs():
    model = residual_model()
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match=r"^memory_plan: batch must be a "):
            model.memory_plan(wrong, training=False)
    with pytest.raises(RuntimeError, match=r"^memory_plan: call compile first"):
        model.memory_plan(4)
    with pytest.raises(ValueError, match=r"^memory_plan: loose does not know its input shape"):
        Sequential([Dense(2)], name="loose").memory_plan(4, training=False)


def test_warmup_makes_the_program():
    model = residual_model()
    model.warmup(4)
    (workspace,) = model._pool.idle()
    assert list(workspace._programs) == [("inference", 4)]
    model.compile("sgd", "categorical_crossentropy")
    weights = model.get_weights()
    model.warmup(4, training=True)
    assert ("training", 4) in workspace._programs
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


def test_a_dropped_model_frees_its_memory():
    import weakref

    model = residual_model()
    model.predict(pictures(2))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(pictures(2), [0, 1])
    memory = weakref.ref(model.weights[0].store)
    del model
    gc.collect()
    assert memory() is None
