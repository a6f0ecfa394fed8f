"""Requests a second and waiting times of `examples/service.py` under gunicorn, with 1, 2 and 4 workers.

    pip install gunicorn
    python bench/bench_service.py --workers 1 2 4 --clients 8 --seconds 10 --json service.jsonl

The clients are threads of this process, each with a connection of its own that it keeps; they take part of the machine.
All workers together have as many threads as there are processors, each at least one.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastcnn import applications

ROOT = Path(__file__).parents[1]


def jpeg(seed: int) -> bytes:
    """Return a smooth picture of 500x375 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the service answers; raise RuntimeError if it ends or takes more than a minute."""
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the service does not answer (exit status {process.poll()})")


def load(port: int, clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Return the seconds that each answer took, the number of failures, and how long it all lasted."""
    times: list[float] = []
    failures = 0
    lock = threading.Lock()
    until = time.perf_counter() + seconds

    def client(seed: int) -> None:
        nonlocal failures
        body, own, failed = jpeg(seed), [], 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < until:
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict", body)
                answer = connection.getresponse()
                ok = answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 5
            except (OSError, http.client.HTTPException):
                ok = False
                connection.close()
            own.append(time.perf_counter() - start)
            failed += not ok
        with lock:
            times.extend(own)
            failures += failed

    start = time.perf_counter()
    group = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in group:
        thread.start()
    for thread in group:
        thread.join()
    return times, failures, time.perf_counter() - start


def measure(model_file: str, workers: int, clients: int, seconds: float) -> dict[str, Any]:
    port = free_port()
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(ROOT / "examples"), "--workers", str(workers)]
    command += ["--bind", f"127.0.0.1:{port}", "--log-level", "warning", f"service:create({model_file!r})"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    try:
        wait_for(port, process)
        load(port, clients, min(2, seconds))
        times, failures, lasted = load(port, clients, seconds)
    finally:
        process.terminate()
        process.wait()
    ordered = sorted(times)
    return {
        "workers": workers,
        "threads": threads,
        "clients": clients,
        "per_second": len(times) / lasted,
        "p50_ms": 1e3 * statistics.median(ordered),
        "p99_ms": 1e3 * ordered[int(0.99 * len(ordered))],
        "failures": failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", type=Path, help="append one line a row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, build in (("ResNet50", applications.ResNet50), ("ResNet18", applications.ResNet18)):
            path = str(Path(folder) / f"{name}.safetensors")
            build(weights=None, input_shape=(224, 224, 3)).save(path)
            for workers in options.workers:
                for clients in options.clients:
                    row = {"network": name, **measure(path, workers, clients, options.seconds)}
                    print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
                    if options.json:
                        with options.json.open("a") as file:
                            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
