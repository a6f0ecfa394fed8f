"""A picture classifier behind HTTP: a WSGI application for gunicorn or any other server.

    pip install fastcnn gunicorn
    OMP_NUM_THREADS=1 gunicorn --chdir examples --workers 2 "service:create('model.safetensors')"
    curl --data-binary @cat.jpg localhost:8000/predict      # {"predictions": [{"class": "cat", "score": 0.98}, ...]}
    curl localhost:8000/health                              # {"status": "ok"}

Each worker is a process with a model of its own. Give all workers together as many threads (OMP_NUM_THREADS each) as
there are processors: one worker with all of them answers a single request soonest, a worker per processor answers most
requests a second. The model is one that takes pixels as 0..255, as `fastcnn train` makes it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastcnn import load_model
from fastcnn.data import ImageFileError
from fastcnn.preprocessing.image import img_to_array, load_img

MOST_BYTES = 20_000_000  # of a request's body
TOP = 5

Environment = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class RefusedError(Exception):
    """A request that cannot be served: the status line and a sentence for the client."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def create(model_file: str) -> Callable[[Environment, StartResponse], Iterable[bytes]]:
    """Return the application; the model is loaded and warm when it returns."""
    model = load_model(model_file, compile=False)
    height, width, channels = model.input.sample_shape
    modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
    names = model.class_names or [str(i) for i in range(model.output_shape[1])]
    model.warmup(1)

    def predict(environment: Environment) -> dict[str, Any]:
        image = load_img(
            io.BytesIO(_body(environment)),
            color_mode=modes[channels],
            target_size=(height, width),
            interpolation="bilinear",
        )
        scores = model.predict_on_batch(img_to_array(image)[None])[0]
        if len(scores) == 1:  # the probability of the second of two classes
            scores = np.array([1 - scores[0], scores[0]])
        best = np.argsort(-scores, kind="stable")[:TOP]
        return {"predictions": [{"class": names[i], "score": round(float(scores[i]), 6)} for i in best]}

    routes = {"/predict": ("POST", predict), "/health": ("GET", lambda environment: {"status": "ok"})}

    def application(environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        status = "200 OK"
        try:
            answer = _route(environment, routes)(environment)
        except RefusedError as refusal:
            status, answer = refusal.status, {"error": str(refusal)}
        except ImageFileError as error:
            status, answer = "400 Bad Request", {"error": str(error)}
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return application


def _route(
    environment: Environment, routes: dict[str, tuple[str, Callable[[Environment], dict[str, Any]]]]
) -> Callable[[Environment], dict[str, Any]]:
    path = environment.get("PATH_INFO", "")
    if path not in routes:
        raise RefusedError("404 Not Found", f"{path} is not here, only {', '.join(routes)}")
    method, handler = routes[path]
    if environment["REQUEST_METHOD"] != method:
        raise RefusedError("405 Method Not Allowed", f"{path} takes {method}, not {environment['REQUEST_METHOD']}")
    return handler


def _body(environment: Environment) -> bytes:
    length = environment.get("CONTENT_LENGTH") or ""
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        raise RefusedError("411 Length Required", "the request must say its Content-Length in bytes")
    if int(length) > MOST_BYTES:
        raise RefusedError(
            "413 Content Too Large", f"the picture has {int(length):,} bytes, the limit is {MOST_BYTES:,}"
        )
    body: bytes = environment["wsgi.input"].read(int(length))
    if len(body) < int(length):
        raise RefusedError("400 Bad Request", f"{int(length):,} bytes were announced but {len(body):,} came")
    return body
