"""ONNX Runtime, CPU provider, all graph optimisations. Needs onnxruntime.

The input is NCHW, made before the clock starts.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from protocol import Workload, require, serve
from seeded import Array


class OnnxRuntimeEngine:
    version = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "onnxruntime", ("infer",))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = workload.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = str(workload.onnx(models))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._feed = {"images": workload.images_nchw()}
        self._logits: Array

    def step(self) -> None:
        self._logits = self._session.run(None, self._feed)[0]

    def outputs(self) -> Array:
        return self._logits


if __name__ == "__main__":
    serve(OnnxRuntimeEngine, Workload)
