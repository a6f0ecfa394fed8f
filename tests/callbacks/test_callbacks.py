from __future__ import annotations

import inspect
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcnn import callbacks
from fastcnn.callbacks import Callback, CallbackList, History, LambdaCallback, ProgressBar

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(callback: Callback, epochs: int = 2, steps: int = 3, validation: bool = True) -> None:
    """Call the hooks as fit does."""
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(steps):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, {"loss": 1 / (batch + 1)})
        logs = {"loss": 0.5 - epoch / 10, "accuracy": 0.25}
        if validation:
            callback.on_test_begin()
            callback.on_test_batch_begin(0)
            callback.on_test_batch_end(0, {"loss": 0.7})
            callback.on_test_end({"loss": 0.7})
            logs |= {"val_loss": 0.7, "val_accuracy": 0.125}
        callback.on_epoch_end(epoch, logs)
    callback.on_train_end()


def test_hooks_are_those_of_keras() -> None:
    expected = ["on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end"]
    expected += ["on_train_interrupt"]  # fastcnn's own
    for phase in ("train", "test", "predict"):
        expected += [f"on_{phase}_begin", f"on_{phase}_end", f"on_{phase}_batch_begin", f"on_{phase}_batch_end"]
    assert sorted(HOOKS) == sorted(expected)
    for name in HOOKS:
        parameters = list(inspect.signature(getattr(Callback, name)).parameters)
        first = ["batch"] if "batch" in name else ["epoch"] if "epoch" in name else []
        assert parameters == ["self", *first, "logs"]


def test_list_forwards_every_hook_in_order() -> None:
    calls: list[tuple[Any, ...]] = []

    def recorder(label: str) -> Callback:
        callback = Callback()
        for name in HOOKS:
            setattr(callback, name, lambda *arguments, name=name: calls.append((label, name, *arguments)))
        return callback

    both = CallbackList([recorder("a"), recorder("b")])
    for name in HOOKS:
        arguments = (3, {"loss": 1.0}) if "batch" in name or "epoch" in name else ({"loss": 1.0},)
        calls.clear()
        getattr(both, name)(*arguments)
        assert calls == [("a", name, *arguments), ("b", name, *arguments)]


def test_list_hands_out_model_and_params() -> None:
    callback = Callback()
    model: Any = object()
    CallbackList(callback, model=model, epochs=4, steps=None, verbose=0)
    assert callback.model is model
    assert callback.params == {"epochs": 4, "steps": None, "verbose": 0}


def test_list_adds_history_once() -> None:
    own = History()
    assert CallbackList([own], add_history=True).history is own
    added = CallbackList([Callback()], add_history=True)
    assert added.history is added.callbacks[-1]
    assert CallbackList().history is None


def test_list_refuses_other_objects() -> None:
    with pytest.raises(TypeError, match="callbacks must be Callback instances, got 'early'"):
        CallbackList(["early"])  # type: ignore[list-item]


def test_history_has_keras_order() -> None:
    history = History()
    play(history)
    assert list(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert history.history["loss"] == [0.5, 0.4]
    assert history.epoch == [0, 1]
    play(history, epochs=1, validation=False)
    assert history.history == {"accuracy": [0.25], "loss": [0.5]}


def test_history_sees_what_earlier_callbacks_add_to_logs() -> None:
    def add(epoch: int, logs: callbacks.Logs | None) -> None:
        assert logs is not None
        logs["learning_rate"] = 0.1

    both = CallbackList([LambdaCallback(on_epoch_end=add)], add_history=True)
    play(both, epochs=1)
    assert both.history is not None
    assert both.history.history["learning_rate"] == [0.1]


def test_history_to_csv(tmp_path: Path) -> None:
    history = History()
    play(history)
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,accuracy,loss,val_accuracy,val_loss",
        "0,0.25,0.5,0.125,0.7",
        "1,0.25,0.4,0.125,0.7",
    ]


def test_lambda_callback_runs_only_given_hooks() -> None:
    seen: list[Any] = []
    callback = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_train_end=lambda logs: seen.append("end"),
    )
    play(CallbackList(callback))
    assert seen == [0, 1, "end"]


def progress(verbose: object) -> CallbackList:
    return CallbackList(add_progress=True, epochs=2, steps=3, verbose=verbose)


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_line_per_epoch_outside_a_terminal(verbose: object, capsys: pytest.CaptureFixture[str]) -> None:
    play(progress(verbose))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2 - 3 steps ")
    assert lines[1].endswith(" - accuracy: 0.2500 - loss: 0.4000 - val_accuracy: 0.1250 - val_loss: 0.7000")
    assert "ms/step" in lines[0]


def test_silent_with_verbose_0(capsys: pytest.CaptureFixture[str]) -> None:
    play(progress(0))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", ["auto", 1])
def test_bar_on_a_terminal(verbose: object, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    play(progress(verbose))
    shown = terminal.getvalue()
    assert "Epoch 1/2: 100%" in shown
    assert "Epoch 2/2: 100%" in shown
    assert "val_loss: 0.7000" in shown
    assert " steps " not in shown


def test_lines_on_a_terminal_with_verbose_2(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    play(progress(2))
    assert len(terminal.getvalue().splitlines()) == 2
    assert "%" not in terminal.getvalue()


@pytest.mark.parametrize(("verbose", "lines"), [("auto", 0), (1, 0), (2, 1)])
def test_evaluate_prints_only_when_asked(verbose: object, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    both = progress(verbose)
    both.on_test_begin()
    both.on_test_batch_end(0, {"loss": 0.3})
    both.on_test_end({"loss": 3e-5})
    out = capsys.readouterr().out
    assert len(out.splitlines()) == lines
    if lines:
        assert out.endswith("loss: 3.0000e-05\n")


def test_predict_shows_a_bar_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(callback: Callback) -> None:
        callback.on_predict_begin()
        for batch in range(3):
            callback.on_predict_batch_begin(batch)
            callback.on_predict_batch_end(batch)
        callback.on_predict_end()

    predict(progress("auto"))
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    predict(progress("auto"))
    assert "Predict: 100%" in terminal.getvalue()


def test_list_keeps_a_progress_bar_it_was_given() -> None:
    own = ProgressBar()
    assert CallbackList([own], add_progress=True).callbacks == [own]
