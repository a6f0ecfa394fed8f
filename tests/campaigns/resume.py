"""Runs that are killed or interrupted at random moments and resumed must end as the uninterrupted one, bit for bit.

    python tests/campaigns/resume.py --kills 50 --interrupts 20

Each run trains a ResNet with dropout and random flips and crops on a folder of pictures, a moving average of the
weights, a rate that falls on plateaus, and checkpoints; backups are made every few batches. SIGKILL or SIGINT comes at
a random time after the first batch, with another number of threads in each process. Compared are the weights, the
optimizer's slots, the History, the CSV log and the checkpoint. After SIGINT the same process calls `fit` again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS, PICTURES, BATCH = 4, 240, 16


def make_pictures(root: Path) -> None:
    """Write three classes of noise with a bright quarter."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("a", "b", "c")):
        (root / name).mkdir(parents=True)
        for i in range(PICTURES // 3):
            x = rng.integers(0, 160, (32, 32, 3), np.uint8)
            x[16 * (label % 2) :, 16 * (label // 2) :] += 90
            Image.fromarray(x).save(root / name / f"{i:03d}.png")


def train(pictures: Path, out: Path, resume: bool) -> None:
    """Train as a user's script does; print what the run left as one JSON line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from fastcnn import applications, callbacks, layers, optimizers, set_random_seed, utils
    from fastcnn.models import Model

    set_random_seed(11)
    data, validation = utils.image_dataset_from_directory(
        pictures, image_size=(32, 32), batch_size=BATCH, seed=3, validation_split=0.2, subset="both", verbose=False
    )
    inputs = layers.Input((32, 32, 3))
    x = layers.RandomCrop(28, 28)(layers.RandomFlip("horizontal")(layers.Rescaling(1 / 127.5, offset=-1)(inputs)))
    base = applications.cifar_resnet(8, input_tensor=x, classes=3)
    x = layers.Dropout(0.2)(base.layers[-2].output)
    model = Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile(
        optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-4, use_ema=True, ema_momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    used = [
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: print("batch", flush=True)),
        callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.1),
        callbacks.CSVLogger(out / "log.csv"),
        callbacks.ModelCheckpoint(out / "best.safetensors", "val_loss", save_best_only=True),
        *([callbacks.BackupAndRestore(out / "backup", save_freq=5)] if resume else []),
    ]
    interrupted = 0
    while True:
        history = model.fit(data, validation_data=validation, epochs=EPOCHS, verbose=0, callbacks=used)
        if not history.interrupted:
            break
        interrupted += 1
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    for name, slot in sorted(model.optimizer_state().items()):
        digest.update(name.encode() + slot.tobytes())
    digest.update(json.dumps([history.history, history.epoch]).encode())
    for name in ("log.csv", "best.safetensors"):
        digest.update((out / name).read_bytes())
    print(json.dumps({"digest": digest.hexdigest(), "interrupted": interrupted, "loss": history.history["loss"][-1]}))


def start(pictures: Path, out: Path, threads: int) -> subprocess.Popen[str]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--train", str(pictures), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    """Return the last line of a run that ended well."""
    output = process.communicate(timeout=600)[0]
    if process.returncode != 0:
        raise SystemExit(f"a run ended with {process.returncode}")
    found: dict[str, object] = json.loads(output.splitlines()[-1])
    return found


def until_first_batch(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != "batch\n":
        raise SystemExit("the run ended before its first batch")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--interrupts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--train", nargs=2, metavar=("PICTURES", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(Path(options.train[0]), Path(options.train[1]), resume="whole" not in options.train[1])
        return 0
    seed = int.from_bytes(os.urandom(4), "little") if options.seed is None else options.seed
    print(f"seed {seed}")
    draw = random.Random(seed)
    began = time.perf_counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures)
        for _ in range(2):  # the second without the first imports, for its time
            (Path(folder) / "whole").mkdir(exist_ok=True)
            process = start(pictures, Path(folder) / "whole", 2)
            until_first_batch(process)
            first = time.perf_counter()
            expected = finish(process)
            seconds = time.perf_counter() - first
        print(f"uninterrupted: {seconds:.2f} s after the first batch, {expected}")

        kills = runs = 0
        while kills < options.kills:
            out = Path(folder) / f"kill{runs}"
            threads = 1 + runs % 2
            process = start(pictures, out, threads)
            while kills < options.kills:
                until_first_batch(process)
                time.sleep(draw.uniform(0, 0.6 * seconds))
                process.kill()
                process.communicate()
                if process.returncode != -signal.SIGKILL:
                    break
                kills += 1
                threads = 3 - threads
                process = start(pictures, out, threads)
                if draw.random() < 0.3:
                    break  # let this one end
            found = finish(process) if process.returncode is None else None
            if found is not None:
                runs += 1
                wrong += found["digest"] != expected["digest"]
        print(f"{kills} kills, {runs} resumed runs ended, {wrong} differ from the uninterrupted one")

        interrupts = served = runs = 0
        while interrupts < options.interrupts:
            process = start(pictures, Path(folder) / f"interrupt{runs}", 1 + runs % 2)
            until_first_batch(process)
            for _ in range(min(draw.randint(1, 4), options.interrupts - interrupts)):
                time.sleep(draw.uniform(0.05, 0.3 * seconds))
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    interrupts += 1
            found = finish(process)
            runs += 1
            served += int(str(found["interrupted"]))
            wrong += found["digest"] != expected["digest"]
        print(
            f"{interrupts} interrupts sent, {served} ended a fit that a next one continued, {runs} runs, {wrong} differ"
        )
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
