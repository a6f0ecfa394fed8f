"""The example service, called as a server calls it."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn.layers import Activation, Dense, GlobalAveragePooling2D, Input
from fastcnn.models import Model

SERVICE = Path(__file__).parents[1] / "examples" / "service.py"

pytestmark = pytest.mark.skipif(not SERVICE.is_file(), reason="the examples are not here")

Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return a function that asks a service whose classes are the colours red, green and blue."""
    spec = importlib.util.spec_from_file_location("service", SERVICE)
    assert spec is not None
    assert spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    x = Input((8, 8, 3))
    dense = Dense(3)
    model = Model(x, Activation("softmax")(dense(GlobalAveragePooling2D()(x))))
    dense.set_weights([np.eye(3, dtype=np.float32) / 50, np.zeros(3, np.float32)])
    model.class_names = ["red", "green", "blue"]
    path = tmp_path_factory.mktemp("service") / "colours.safetensors"
    model.save(path)
    application = service.create(str(path))

    def ask(path: str, method: str = "POST", body: bytes = b"", length: str | None = None) -> tuple[int, Any]:
        answer: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            answer.update(status=int(status.split()[0]), headers=dict(headers))

        environment = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)) if length is None else length,
            "wsgi.input": io.BytesIO(body),
        }
        content = b"".join(application(environment, start_response))
        assert answer["headers"] == {"Content-Type": "application/json", "Content-Length": str(len(content))}
        return answer["status"], json.loads(content)

    return ask


def picture(colour: tuple[int, int, int], format: str) -> bytes:
    """Return a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_is_classified(ask: Ask, format: str) -> None:
    status, answer = ask("/predict", body=picture((0, 200, 50), format))
    assert status == 200
    assert [row["class"] for row in answer["predictions"]] == ["green", "blue", "red"]
    scores = [row["score"] for row in answer["predictions"]]
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores[0] / scores[1] == pytest.approx(np.exp(150 / 50), rel=0.05)


def test_health(ask: Ask) -> None:
    assert ask("/health", "GET") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ({"path": "/"}, 404, "/ is not here, only /predict, /health"),
        ({"path": "/predict", "method": "GET"}, 405, "/predict takes POST, not GET"),
        ({"path": "/predict", "length": ""}, 411, "Content-Length"),
        ({"path": "/predict", "length": "-1"}, 411, "Content-Length"),
        ({"path": "/predict", "length": "9" * 5000}, 411, "Content-Length"),
        ({"path": "/predict", "length": "20000001"}, 413, "20,000,001 bytes, the limit is 20,000,000"),
        ({"path": "/predict", "body": b"abc", "length": "9"}, 400, "9 bytes were announced but 3 came"),
        ({"path": "/predict"}, 400, "empty"),
        ({"path": "/predict", "body": b"%PDF-1.7 and so on"}, 400, "PDF"),
        ({"path": "/predict", "body": picture((1, 2, 3), "PNG")[:60]}, 400, "PNG"),
    ],
)
def test_a_request_that_cannot_be_served(ask: Ask, arguments: dict[str, Any], status: int, reason: str) -> None:
    found, answer = ask(**arguments)
    assert found == status
    assert reason in answer["error"]
