from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import CLASSES, draw, run, run_process, small_network
from PIL import Image

from fastcnn import cli
from fastcnn._version import __version__
from fastcnn.cli import architectures, demo, history, patterns, recipe, train
from fastcnn.formats import atomic
from fastcnn.layers import BatchNormalization, Dense, Input, Rescaling
from fastcnn.models import Model, load_model, saving

# -- usage -------------------------------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert run_process("--version").stdout == f"fastcnn {__version__}\n"
    out = run_process("--help").stdout
    for command in ("demo", "train", "evaluate", "predict", "summary", "check-data", "doctor", "selftest", "bench"):
        assert re.search(rf"^ +{command}\s", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train"], "required: DATA"),
        (["train", "x", "--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["train", "x", "--epochs", "two"], "must be a whole number of at least 1, got 'two'"),
        (["train", "x", "--val-split", "1"], "must be at least 0 and below 1, got '1'"),
        (["train", "x", "--learning-rate", "0"], "must be a number above 0, got '0'"),
        (["train", "x", "--learning-rate", "nan"], "must be a number above 0, got 'nan'"),
        (["train", "x", "--model", "alexnet"], "invalid choice: 'alexnet'"),
        (["train", "x", "--out", "model.keras"], "a model file ends in .safetensors"),
        (["train", "x", "--epoch", "3"], "unrecognized arguments"),
        (["predict", "model.safetensors"], "required: IMAGE"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nothing.safetensors", "x.png"], "nothing.safetensors: No such file or directory"),
        (["summary", "nothing"], "nothing: No such file or directory"),
        (["train", "nowhere"], "directory 'nowhere' does not exist"),
        (["summary", "resnet50-seed", "--image-size", "32"], "avg_pool"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, *arguments, code=1)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"fastcnn {arguments[0]}: ")
    assert message in err


def test_errors_of_several_lines_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastcnn.formats import safetensors

    path = tmp_path / "m.safetensors"
    saving.save(Model(*_tiny()), path)
    file = safetensors.read(path)
    tensors = {name.replace("kernel", "weight"): array for name, array in file.tensors.items()}
    safetensors.write(path, tensors, file.metadata)
    _, err = run(capsys, "summary", str(path), code=1)
    assert len(err.splitlines()) == 1
    assert "dense_layer/kernel" in err
    assert "dense_layer/weight" in err


def _tiny() -> tuple[Any, Any]:

    x = Input((4,))
    return x, Dense(2, name="dense_layer")(x)


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run_process("--debug", "summary", "nothing", code=1).stderr


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.doctor, "run", interrupted)
    assert run(capsys, "doctor", code=130) == ("", "fastcnn doctor: interrupted\n")


def test_interrupt_during_training(pictures: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a running `train` with code 130 and no model file."""
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "fastcnn", "train", str(pictures), "--image-size", "32", "--epochs", "1000"]
    with subprocess.Popen(
        [*command, "--json", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["classes"].keys() == set(CLASSES)
        assert json.loads(process.stdout.readline())["epoch"] == 1
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    backup = tmp_path / "m.resume" / "training.safetensors"
    assert err == f"fastcnn train: interrupted; the same command with --resume goes on from {backup}\n"
    assert backup.exists()
    assert not out.exists()


def test_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m fastcnn summary resnet152 | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'Model: "resnet152"\n'
    assert done.stderr == ""


# -- train and predict -------------------------------------------------------------------------------------------------


def test_train(model_file: Path) -> None:
    lines = (model_file.parent / "train.txt").read_text().splitlines()
    assert lines[0] == "24 pictures for training, 6 for validation, 3 classes:"
    counts = dict(re.findall(r"(\w+) (\d+)", lines[1]))
    assert list(counts) == list(CLASSES)
    assert sum(map(int, counts.values())) == 24
    assert lines[2] == "resnet18, 11,187,651 parameters, for pictures of 32 x 32 pixels"
    assert re.fullmatch(r"memory: [\d.]+ MB, of it weights 42\.68 MB, gradients .* MB, adam .* MB, .*", lines[3])
    assert re.fullmatch(r"time: about [\d.]+ (s|min.*) an epoch, .* in all", lines[4])
    epochs = [line for line in lines if line.startswith("Epoch ")]
    assert len(epochs) == 2
    assert "val_accuracy" in epochs[0]
    assert re.fullmatch(r"test: accuracy \d\.\d{4}, loss \d+\.\d{4}", lines[-2])
    csv, curves = (model_file.with_suffix(suffix) for suffix in (".history.csv", ".curves.png"))
    assert lines[-1].startswith(f"saved {model_file} (")
    assert lines[-1].endswith(f"), {csv}, {curves}")
    assert [line.split(",")[0] for line in csv.read_text().splitlines()] == ["epoch", "0", "1"]
    with Image.open(curves) as image:
        assert image.size[0] > image.size[1]  # loss and accuracy side by side
    model = load_model(model_file)
    assert model.class_names == list(CLASSES)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.optimizer is not None
    assert model.optimizer.iterations == 6


def test_train_json_and_seed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "build_for_training", small_network)

    def results(name: str, seed: str) -> list[dict[str, Any]]:
        out, err = run(
            capsys,
            *("train", str(pictures), "--model", "resnet18", "--image-size", "32", "--epochs", "2", "--json"),
            *("--optimizer", "sgd", "--val-split", "0", "--seed", seed, "--out", str(tmp_path / f"{name}.safetensors")),
        )
        assert err == ""
        plan, *lines = [json.loads(line) for line in out.splitlines()]
        assert (plan["training"], plan["validation"]) == (30, 0)
        return lines

    first = results("a", "1")
    assert [line.get("epoch") for line in first] == [1, 2, None]
    assert set(first[0]) == {"epoch", "accuracy", "loss"}
    assert first[2]["classes"] == dict.fromkeys(CLASSES, 10)
    assert first[:2] == results("b", "1")[:2]
    assert first[:2] != results("c", "2")[:2]


def test_train_from_a_list(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "build_for_training", small_network)
    files = sorted(pictures.glob("*/*.png"))
    (tmp_path / "list.csv").write_text("".join(f"{file},{file.parent.name}\n" for file in files))
    results = []
    for number, source in enumerate((str(pictures), str(tmp_path / "list.csv"))):
        out, err = run(
            capsys,
            *("train", source, "--test", source, "--image-size", "32", "--epochs", "1", "--json"),
            *("--out", str(tmp_path / f"{number}.safetensors")),
        )
        assert err == ""
        lines = [json.loads(line) for line in out.splitlines()][1:]
        results.append([{k: v for k, v in line.items() if k not in ("model", "seconds", "files")} for line in lines])
    assert results[0] == results[1]
    assert results[1][-1]["classes"].keys() == set(CLASSES)


def test_train_refuses_data_that_make_no_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(folder: Path, *arguments: str) -> str:
        out, err = run(capsys, "train", str(folder), "--out", str(tmp_path / "m.safetensors"), *arguments, code=1)
        assert out == ""
        return err

    whole = draw(tmp_path / "whole", 2)
    (tmp_path / "one").mkdir()
    (whole / "red").rename(tmp_path / "one" / "red")
    assert "needs at least two classes, found only 'red'" in refused(tmp_path / "one", "--val-split", "0")
    (tmp_path / "empty").mkdir()
    assert "must hold one folder per class, but it has none" in refused(tmp_path / "empty")
    (whole / "none").mkdir()
    assert "has none in ['none']" in refused(whole)
    (whole / "none").rmdir()
    single = draw(tmp_path / "single", 2)
    (single / "red" / "1.png").unlink()
    assert "'red' has one picture, which cannot serve for training and for validation" in refused(single)
    with pytest.raises(ValueError, match="no picture of 'b' is left for training"):
        train._check_classes("x", {"a": 2, "b": 0}, None)


# -- check-data --------------------------------------------------------------------------------------------------------


def test_check_data_of_a_good_folder(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "check-data", str(pictures))
    assert err == ""
    lines = out.splitlines()
    assert lines[:4] == [f"{pictures}: 30 pictures, 3 classes", "  blue 10", "  green 10", "  red 10"]
    assert "formats: PNG 30" in lines
    assert "colour 30, gray 0" in lines
    assert "sizes (height x width): 40 x 36 to 40 x 36, 1 different" in lines
    found = json.loads(run(capsys, "check-data", str(pictures), "--json")[0])
    assert found["class_counts"] == dict.fromkeys(CLASSES, 10)
    assert found["sizes"] == [{"height": 40, "width": 36, "count": 30}]
    assert (found["problems"], found["duplicates"], found["unreadable"]) == ([], [], {})


def test_check_data_of_an_odd_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw(tmp_path / "odd", 2)
    (folder / "empty").mkdir()
    (folder / "red" / "text.png").write_text("no picture")
    (folder / "blue" / "copy.png").write_bytes((folder / "red" / "0.png").read_bytes())
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "blue" / "gray.png")
    out, err = run(capsys, "check-data", str(folder), code=1)
    expected = "1 of the files cannot be read; no pictures in empty"
    assert err == f"fastcnn check-data: {folder}: {expected}\n"
    assert "colour 7, gray 1" in out
    assert f"1 pictures several times, byte by byte:\n  {folder}/blue/copy.png = {folder}/red/0.png\n" in out
    assert f"1 cannot be read:\n  {folder}/red/text.png: unknown: " in out
    found = json.loads(run(capsys, "check-data", str(folder), "--json", code=1)[0])
    assert found["problems"] == expected.split("; ")
    assert list(found["unreadable"]) == [f"{folder}/red/text.png"]
    assert found["duplicates"] == [[f"{folder}/blue/copy.png", f"{folder}/red/0.png"]]
    (tmp_path / "nothing").mkdir()
    _, err = run(capsys, "check-data", str(tmp_path / "nothing"), code=1)
    assert "needs at least two class folders, found 0; no picture at all" in err
    _, err = run(capsys, "check-data", str(tmp_path / "nowhere"), code=1)
    assert "does not exist" in err


def test_train_checks_its_output_first(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "no" / "such" / "m.safetensors"
    shown, err = run(capsys, "train", str(pictures), "--image-size", "32", "--out", str(out), code=1)
    assert shown == ""
    assert f"{out}: " in err


def test_predict_text(model_file: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(pictures / name / "0.png") for name in CLASSES]
    out, err = run(capsys, "predict", str(model_file), *paths, "--top", "2")
    assert err == ""
    for line, path in zip(out.splitlines(), paths, strict=True):
        assert re.fullmatch(re.escape(path) + r": (blue|green|red) [01]\.\d{4}, (blue|green|red) [01]\.\d{4}", line)


def test_predict_json_reads_pictures_as_training_does(
    model_file: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastcnn.data import image_dataset_from_directory

    model = load_model(model_file)
    dataset = image_dataset_from_directory(pictures, image_size=32, shuffle=False, verbose=False)
    expected = np.concatenate([model.predict_on_batch(x) for x, _ in dataset])
    out, _ = run(capsys, "predict", str(model_file), *dataset.file_paths, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["path"] for line in lines] == dataset.file_paths
    for line, scores in zip(lines, expected, strict=True):
        best = int(scores.argmax())
        assert line["label"] == CLASSES[best]
        assert line["top"] == [[CLASSES[i], float(scores[i])] for i in np.argsort(-scores, kind="stable")]
        assert line["score"] == float(scores[best])


def test_predict_goes_on_after_a_bad_picture(
    model_file: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    good = str(pictures / "red" / "0.png")
    out, err = run(capsys, "predict", str(model_file), str(bad), str(tmp_path / "none.png"), good, code=1)
    assert out.startswith(f"{good}: ")
    assert len(out.splitlines()) == 1
    assert [line.split("'")[1] for line in err.splitlines()] == [str(bad), str(tmp_path / "none.png")]


def test_predict_needs_a_model_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saving.save(Model(*_tiny()), tmp_path / "m.safetensors")
    _, err = run(capsys, "predict", str(tmp_path / "m.safetensors"), "x.png", code=1)
    assert "the model takes samples [4], not pictures with 1, 3 or 4 channels" in err


@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name not in ("vgg16", "vgg19")])
def test_training_form_scales_pictures_and_settles_soon(name: str) -> None:
    model = architectures.build_for_training(name, 64, 4)
    scaling = model.layers[1]
    assert isinstance(scaling, Rescaling)
    assert scaling.get_config()["scale"] == 1 / 127.5
    assert {layer.momentum for layer in model.layers if isinstance(layer, BatchNormalization)} == {0.9}
    assert model.output_shape == (None, 4)


# -- summary and doctor ------------------------------------------------------------------------------------------------


def test_summary_of_an_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "summary", "resnet50-seed", "--classes", "6")
    assert 'Model: "ResNet50"' in out
    assert "Total params: 23,600,006 (90.03 MB)" in out
    out, _ = run(capsys, "summary", "vgg16", "--json")
    found = json.loads(out)
    assert (found["name"], found["parameters"], found["non_trainable"]) == ("vgg16", 138_357_544, 0)
    assert found["layers"][1] == {"name": "block1_conv1", "class": "Conv2D", "parameters": 1792}
    out, _ = run(capsys, "summary", "resnet18", "--variant", "torchvision", "--json")
    assert json.loads(out)["trainable"] == 11_689_512


def test_summary_with_algorithms(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "summary", "resnet18", "--image-size", "64", "--algorithms")
    table = out.split("\n\n")[1].splitlines()
    assert table[0].startswith("Convolution")
    assert len(table) == 2 + 20
    out, _ = run(capsys, "summary", "resnet18", "--image-size", "64", "--algorithms", "--json")
    first = json.loads(out)["algorithms"][0]
    assert first == {
        "layer": "conv1_conv",
        "image": [64, 64, 3],
        "forward": "direct",
        "training": "direct",
        "backward_data": None,
        "backward_weights": "direct",
        "possible": ["direct"],
        "forced": None,
    }


def test_summary_of_a_file(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "summary", str(model_file))
    assert "Optimizer adam: " in out
    out, _ = run(capsys, "summary", str(model_file), "--json")
    assert json.loads(out)["class_names"] == list(CLASSES)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    from fastcnn import _core

    out, _ = run(capsys, "doctor")
    assert re.search(rf"^fastcnn +{re.escape(__version__)}$", out, re.MULTILINE)
    assert f"numpy {np.__version__}" in out
    assert f"\ninstruction sets that can be forced, FASTCNN_ISA=NAME or set_isa: {', '.join(_core.isas())}\n" in out
    found = json.loads(run(capsys, "doctor", "--json")[0])
    assert found["isa"] == _core.isa()
    assert found["isas"] == _core.isas()
    assert found["threads"] == _core.num_threads()
    for isa, reason in found["isas_refused"].items():
        assert re.fullmatch(r"this CPU lacks .*, which it needs|this build has no such set", reason)
        assert f"\n  not {isa}: {reason}\n" in out
    assert set(found["isas_refused"]) == {"base", "avx2", "avx512", "amx", "neon"} - set(_core.isas())
    assert any("omp" in runtime for runtime in found["openmp"])
    assert f"\nOpenMP: {', '.join(found['openmp'])}\n" in out


@pytest.mark.parametrize(
    ("threads", "usable", "wanted", "because"),
    [
        (4, 4, None, "the CPUs"),
        (4, 4, "8", "the CPUs"),
        (2, 4, "2", "OMP_NUM_THREADS"),
        (2, 4, "2,1", "OMP_NUM_THREADS"),
        (1, 4, None, "the cgroup's CPU quota"),
        (1, 4, "2", "the cgroup's CPU quota"),
        (1, 4, "many", "the cgroup's CPU quota"),
    ],
)
def test_doctor_says_what_decides_about_threads(threads: int, usable: int, wanted: str | None, because: str) -> None:
    limits = {"threads": threads, "usable_cpus": usable, "omp_num_threads": wanted}
    assert cli.doctor._because(limits) == because


def test_doctor_warns_of_two_openmp_runtimes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "7f00-7f01 r-xp 00000000 08:01 1234                       {}\n"
    names = ("/opt/a/libgomp-a34b3233.so.1.0.0", "/opt/b/libiomp5.so", "/opt/b/libiomp5.so", "/usr/lib/libcomp.so")
    (tmp_path / "maps").write_text("".join(line.format(name) for name in names))
    monkeypatch.setattr(cli.doctor, "_MAPS", str(tmp_path / "maps"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    out, _ = run(capsys, "doctor")
    assert "OpenMP: /opt/a/libgomp-a34b3233.so.1.0.0, /opt/b/libiomp5.so\n  several runtimes" in out
    assert "\n  OMP_WAIT_POLICY=passive\n" in out
    monkeypatch.setattr(cli.doctor, "_MAPS", str(tmp_path / "none"))
    assert "OpenMP: no runtime found" in run(capsys, "doctor")[0]


# -- demo --------------------------------------------------------------------------------------------------------------


def test_patterns_follow_from_their_arguments() -> None:
    for name in patterns.CLASSES:
        a = patterns.draw(name, 3, 7)
        assert a.shape == (64, 64, 3)
        assert a.dtype == np.uint8
        assert np.array_equal(a, patterns.draw(name, 3, 7))
        assert not np.array_equal(a, patterns.draw(name, 4, 7))
        assert not np.array_equal(a, patterns.draw(name, 3, 8))


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo use a few pictures and a small network where it asks for the seed's ResNet50."""

    def build(name: str, size: int, classes: int) -> Model:
        assert (name, size, classes) == (architectures.SEED, 64, 6)
        return small_network(name, size, classes)

    monkeypatch.setattr(demo, "_TRAINING", 4)
    monkeypatch.setattr(demo, "_TEST", 2)
    monkeypatch.setattr(demo, "build_for_training", build)


@pytest.mark.usefixtures("quick_demo")
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--epochs", "1", "--json")
    assert err == ""
    epoch, result = map(json.loads, out.splitlines())
    assert epoch["epoch"] == 1
    assert set(result) == {"linear_accuracy", "test_accuracy", "seconds", "files"}
    assert all(Path(file).stat().st_size > 0 for file in result["files"])
    for folder, count in (("data", 4), ("test", 2)):
        for name in patterns.CLASSES:
            assert len(list((tmp_path / "demo" / folder / name).glob("*.png"))) == count
    model = load_model(tmp_path / "demo" / "model.safetensors")
    assert model.class_names == list(patterns.CLASSES)
    with Image.open(tmp_path / "demo" / "data" / "dots" / "000.png") as image:
        assert np.array_equal(np.asarray(image), patterns.draw("dots", 0, 0))


@pytest.mark.usefixtures("quick_demo")
def test_what_the_demo_suggests_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    out, _ = run(capsys, "demo", "--out", str(tmp_path / "my demo"), "--epochs", "1")
    answers = subprocess.run(out.splitlines()[-1], shell=True, capture_output=True, text=True, timeout=60, check=True)
    assert answers.stdout.count(".png") == 2


@pytest.mark.parametrize(
    ("found", "called", "expected"),
    [
        ("/bin/fastcnn", ".venv/bin/fastcnn", "fastcnn"),
        (None, ".venv/bin/fastcnn", ".venv/bin/fastcnn"),
        (None, "my env/bin/fastcnn", "'my env/bin/fastcnn'"),
    ],
)
def test_the_demo_names_the_program_as_a_shell_finds_it(
    found: str | None, called: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.shutil, "which", lambda name: found)
    monkeypatch.setattr(demo.sys, "argv", [called, "demo"])
    assert demo._program() == expected


@pytest.mark.usefixtures("quick_demo")
def test_demo_asks_for_room_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    out, err = run(capsys, "demo", "--out", str(tmp_path), "--epochs", "1", code=1)
    assert "Epoch" not in out
    assert re.fullmatch(
        rf"fastcnn demo: {tmp_path}/model\.safetensors: [\d,]+ bytes are needed and 1,000 are free\n", err
    )


@pytest.mark.usefixtures("quick_demo")
def test_demo_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history.importlib.util, "find_spec", lambda name: None)
    out, _ = run(capsys, "demo", "--out", str(tmp_path), "--epochs", "1")
    assert history.NO_CURVES in out
    assert (tmp_path / "predictions.png").exists()
    assert not (tmp_path / "curves.png").exists()
