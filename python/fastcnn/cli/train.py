"""`fastcnn train`: a classifier from a folder with one folder of pictures per class, or from a CSV list."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastcnn import data
from fastcnn.callbacks import BackupAndRestore, Callback, EarlyStopping, History, LambdaCallback, Logs
from fastcnn.cli import recipe
from fastcnn.cli.advice import advice
from fastcnn.cli.arguments import UsageError, fraction, frequency, model_file, whole
from fastcnn.cli.forecast import Forecast, forecast
from fastcnn.cli.history import NO_CURVES, write_history
from fastcnn.cli.pictures import class_counts, open_for_model, open_pictures
from fastcnn.formats.atomic import check_writable
from fastcnn.models import Model
from fastcnn.report import duration, memory_size
from fastcnn.utils import set_random_seed

HELP = "train a classifier on a folder with one folder of pictures per class, or on a CSV list of path,label"

_FLOAT_BYTES = 4
_ASKED = 8  # pictures that tell whether all get one answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("data", metavar="DATA", help="the folder of class folders, or LIST.csv with lines path,label")
    parser.add_argument("--epochs", type=whole(1), default=10, metavar="N", help="default 10")
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="pictures per step (default 32)")
    parser.add_argument(
        "--val-split", type=fraction, default=0.2, metavar="F", help="share set apart for validation (default 0.2)"
    )
    parser.add_argument("--test", metavar="DATA", help="such data with the same classes to evaluate at the end")
    recipe.add_arguments(parser)
    parser.add_argument(
        "--class-weight", choices=("balanced",), help="each class counts alike, however many pictures it has"
    )
    parser.add_argument(
        "--patience",
        type=whole(1),
        metavar="N",
        help="end after N epochs in which the validation loss did not fall, with the best epoch's weights",
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of weights and order (default 0)")
    parser.add_argument(
        "--out",
        type=model_file,
        default="model.safetensors",
        metavar="FILE",
        help="default model.safetensors; FILE's stem names the history, its curves and the backup too",
    )
    parser.add_argument(
        "--save-freq",
        type=frequency,
        default="epoch",
        metavar="N",
        help="back up every N batches instead of every epoch; after Ctrl-C always",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run, bit for bit; give the same options again"
    )


def run(options: argparse.Namespace) -> int:
    """Train, report and save; return the exit code."""
    set_random_seed(options.seed)
    stem = os.path.splitext(options.out)[0]
    backup = BackupAndRestore(f"{stem}.resume", save_freq=options.save_freq, delete_checkpoint=False)
    _check_backup(backup, options)
    training, validation = _read(options)
    counts = class_counts(training)
    _check_classes(options.data, counts, validation)
    if options.patience and validation is None:
        raise UsageError("--patience needs validation pictures: --val-split must be above 0")
    test = None if options.test is None else _open_test(options, training.class_names)
    model, taken = recipe.build(options, len(counts))
    model.class_names = training.class_names
    recipe.compile_model(model, options, len(training))
    check_space(options.out, model, copies=3)  # beside the model a backup, and the next one while it is written
    plan = _plan(options, model, taken, counts, 0 if validation is None else len(validation.file_paths))
    _show_forecast(options, plan, forecast(model, training, validation))
    began = time.perf_counter()
    history = model.fit(
        training,
        validation_data=validation,
        epochs=options.epochs,
        class_weight=_class_weight(counts) if options.class_weight else None,
        verbose=0 if options.json else "auto",
        callbacks=[
            *([EarlyStopping(patience=options.patience, restore_best_weights=True)] if options.patience else []),
            *([json_lines()] if options.json else []),
            backup,
        ],
    )
    if history.interrupted:
        print(f"fastcnn train: interrupted; the same command with --resume goes on from {backup.path}", file=sys.stderr)
        return 130
    result: dict[str, Any] = {"model": options.out, "seconds": round(time.perf_counter() - began, 1)}
    if test is not None:
        result |= {f"test_{name}": value for name, value in model.evaluate(test, verbose=0, return_dict=True).items()}
    hint = advice(history, list(counts.values()), options.class_weight, partial(_answers, model, training))
    if hint is not None:
        result["note"] = hint
    model.save(options.out)
    _show_result(options, result, counts, history)
    backup.delete()
    return 0


def _answers(model: Model, training: data.ImageDataset) -> Any:
    """Return the model's probabilities [N,K] for a few training pictures."""
    batches = training.epoch(0)
    x = next(batches)[0]
    batches.close()
    return model.predict_on_batch(x[:_ASKED])


def check_space(path: str | os.PathLike[str], model: Model, copies: int = 1) -> None:
    """Raise OSError unless the trained model with its optimizer's slots could be saved there, that many times."""
    assert model.optimizer is not None
    slots = len(model.optimizer.slots) * sum(parameter.size for parameter in model.trained_weights)
    check_writable(path, copies * _FLOAT_BYTES * (model.count_params() + slots))


def json_lines() -> Callback:
    """Return a callback that prints one JSON object per epoch."""

    def show(epoch: int, logs: Logs | None) -> None:
        print(json.dumps({"epoch": epoch + 1} | (logs or {})), flush=True)

    return LambdaCallback(on_epoch_end=show)


def _check_backup(backup: BackupAndRestore, options: argparse.Namespace) -> None:
    """Raise ValueError rather than lose an interrupted run; say so if there is none to resume."""
    exists = os.path.exists(backup.path)
    if exists and not options.resume:
        raise ValueError(
            f"{backup.backup_dir} holds an interrupted run: go on with it by --resume, or remove the folder"
        )
    if options.resume and not exists and not options.json:
        print(f"{backup.backup_dir} holds no interrupted run: training starts from the beginning")


def _check_classes(where: str, counts: Mapping[str, int], validation: data.ImageDataset | None) -> None:
    """Raise ValueError for data that cannot make a classifier; `counts` are those of training."""
    if len(counts) < 2:
        raise ValueError(f"{where}: a classifier needs at least two classes, found only {next(iter(counts))!r}")
    if validation is not None:
        held_out = class_counts(validation)
        single = [name for name, count in counts.items() if count + held_out[name] == 1]
        if single:
            raise ValueError(
                f"{where}: {single[0]!r} has one picture, which cannot serve for training and for validation; give it "
                "more pictures, or set --val-split 0"
            )
    missing = [name for name, count in counts.items() if count == 0]
    if missing:
        raise ValueError(
            f"{where}: no picture of {missing[0]!r} is left for training; give it more pictures, or change --val-split "
            "or --seed"
        )


def _class_weight(counts: Mapping[str, int]) -> dict[int, float]:
    """Return weights that make each class count alike and the mean sample 1."""
    total = sum(counts.values())
    return {i: total / (len(counts) * count) for i, count in enumerate(counts.values())}


def _read(options: argparse.Namespace) -> tuple[data.ImageDataset, data.ImageDataset | None]:
    """Return the pictures for training and validation, the latter None with `--val-split 0`."""
    if options.val_split == 0:
        return _open(options, options.data), None
    both: tuple[data.ImageDataset, data.ImageDataset] = _open(
        options, options.data, validation_split=options.val_split, subset="both"
    )
    return both


def _open_test(options: argparse.Namespace, names: Sequence[str]) -> data.ImageDataset:
    """Return the pictures of `--test`; raises ValueError for other classes than those trained on."""
    mode = recipe.label_mode(options)
    return open_for_model(options.test, options.image_size, options.batch_size, names, len(names), label_mode=mode)


def _open(options: argparse.Namespace, path: str, **arguments: Any) -> Any:
    mode = recipe.label_mode(options)
    return open_pictures(path, options.image_size, options.batch_size, options.seed, label_mode=mode, **arguments)


def _plan(
    options: argparse.Namespace, model: Model, taken: int | None, counts: Mapping[str, int], held_out: int
) -> dict[str, Any]:
    """Return what is about to be done, and print it unless all is to be JSON."""
    plan: dict[str, Any] = {"classes": counts, "training": sum(counts.values()), "validation": held_out}
    plan |= {"parameters": model.count_params(), "trained": sum(parameter.size for parameter in model.trained_weights)}
    if taken is not None:
        plan |= {"weights_taken": taken, "weights": len(model.weights)}
    if options.json:
        return plan
    print(f"{plan['training']} pictures for training, {held_out} for validation, {len(counts)} classes:")
    print("  " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    size, share = options.image_size, f" ({plan['trained']:,} of them trained)" if options.freeze else ""
    print(f"{options.model}, {plan['parameters']:,} parameters{share}, for pictures of {size} x {size} pixels")
    if taken is not None:
        new = "" if taken == plan["weights"] else "; the last layer starts anew"
        print(f"{options.weights}: {taken} of {plan['weights']} weights taken{new}")
    sys.stdout.flush()
    return plan


def _show_forecast(options: argparse.Namespace, plan: Mapping[str, Any], expected: Forecast) -> None:
    """Print what training takes, as JSON with the plan."""
    memory, seconds = expected.memory, expected.seconds_per_epoch
    if options.json:
        takes = {"memory_bytes": memory.total, "seconds_per_epoch": round(seconds, 3)}
        print(json.dumps(dict(plan) | takes), flush=True)
        return
    print(
        f"memory: {memory_size(memory.total)}, of it weights {memory_size(memory.weights)}, gradients "
        f"{memory_size(memory.gradients)}, {options.optimizer} {memory_size(memory.optimizer)}, activations "
        f"{memory_size(memory.activations)}"
    )
    print(f"time: about {duration(seconds)} an epoch, {duration(seconds * options.epochs)} in all", flush=True)


def _show_result(
    options: argparse.Namespace, result: dict[str, Any], counts: Mapping[str, int], history: History
) -> None:
    """Write the history beside the saved model and say what was found and where it is."""
    stem = os.path.splitext(options.out)[0]
    curves = Path(f"{stem}.curves.png")
    made = write_history(history, Path(f"{stem}.history.csv"), curves)
    if options.json:
        print(json.dumps(result | {"classes": counts, "files": [options.out, *map(str, made)]}))
        return
    if "note" in result:
        print(f"note: {result['note']}")
    if "test_loss" in result:
        print(f"test: accuracy {result['test_accuracy']:.4f}, loss {result['test_loss']:.4f}")
    print(f"saved {options.out} ({memory_size(os.path.getsize(options.out))}), {', '.join(map(str, made))}")
    if curves not in made:
        print(NO_CURVES)
