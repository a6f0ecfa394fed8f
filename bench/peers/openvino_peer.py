"""OpenVINO on the CPU, one stream with all threads, in float32. Needs openvino.

"" runs a batch as one; "streams" as one part per thread, each part in a stream of its own. Without the two hints of
precision OpenVINO would compute in bfloat16 where the processor can. Input and output are shared, not copied; the input
is NCHW, made before the clock starts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint
from protocol import Workload, require, serve
from seeded import Array


def _file(workload: Workload, models: Path) -> Path:
    return workload.file(models, ".openvino.xml")


class OpenVinoEngine:
    version = f"openvino {openvino.__version__.partition('-')[0]}"

    @staticmethod
    def convert(workload: Workload, models: Path) -> None:
        openvino.save_model(
            openvino.convert_model(workload.onnx(models)), _file(workload, models), compress_to_fp16=False
        )

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "openvino", ("infer",), ("", "streams"))
        streams = workload.threads if workload.variant == "streams" else 1
        part, rest = divmod(workload.batch, streams)
        if rest:
            raise ValueError(f"openvino: {streams} streams need a batch they divide, got {workload.batch}")
        core = openvino.Core()
        model = core.read_model(_file(workload, models))
        model.reshape([part, workload.channels, workload.size, workload.size])
        compiled = core.compile_model(
            model,
            "CPU",
            {
                hint.performance_mode: hint.PerformanceMode.LATENCY,
                hint.execution_mode: hint.ExecutionMode.ACCURACY,
                hint.inference_precision: openvino.Type.f32,
                properties.num_streams: streams,
                properties.inference_num_threads: workload.threads,
            },
        )
        self._logits = np.empty((workload.batch, workload.classes), np.float32)
        self._x = workload.images_nchw()  # the tensors below read it where it lies
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        for i, request in enumerate(self._requests):
            rows = slice(i * part, (i + 1) * part)
            request.set_input_tensor(openvino.Tensor(self._x[rows], shared_memory=True))
            request.set_output_tensor(openvino.Tensor(self._logits[rows], shared_memory=True))

    def step(self) -> None:
        if len(self._requests) == 1:
            self._requests[0].infer()
            return
        for request in self._requests:
            request.start_async()
        for request in self._requests:
            request.wait()

    def outputs(self) -> Array:
        return self._logits


if __name__ == "__main__":
    serve(OpenVinoEngine, Workload)
