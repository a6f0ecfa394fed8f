"""MNN on the CPU in float32. Needs MNN.

"" is its default Winograd, "small_winograd" the one that takes less memory, faster on some networks. On x86 precisions
"high", "normal" and "low" give the same bits at the same speed. The converter is called past its command line, which
installs a package and sends statistics. The input is NCHW, made before the clock starts, and copied into MNN's own.
"""

from __future__ import annotations

from pathlib import Path

import _tools
import MNN
import numpy as np
from protocol import Workload, require, serve
from seeded import Array

_WINOGRAD_MEMORY = 3  # of MNN's HintMode; 0 is none, 3 its default


def _file(workload: Workload, models: Path) -> Path:
    return workload.file(models, ".mnn")


class MnnEngine:
    version = f"mnn {MNN.version()}"

    @staticmethod
    def convert(workload: Workload, models: Path) -> None:
        source, target = str(workload.onnx(models)), str(_file(workload, models))
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "x"])
        if not Path(target).exists():
            raise OSError(f"mnn: the converter wrote no {target}")

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "mnn", ("infer",), ("", "small_winograd"))
        path = _file(workload, models)
        if not path.exists():
            raise OSError(f"mnn: {path.name} does not exist")
        self._interpreter = MNN.Interpreter(str(path))
        if workload.variant == "small_winograd":
            self._interpreter.setSessionHint(_WINOGRAD_MEMORY, 1)
        self._session = self._interpreter.createSession(
            {"backend": "CPU", "numThread": workload.threads, "precision": "high"}
        )
        self._input = self._interpreter.getSessionInput(self._session)
        x = workload.images_nchw()
        self._interpreter.resizeTensor(self._input, x.shape)
        self._interpreter.resizeSession(self._session)
        self._x = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)
        self._logits = np.empty((workload.batch, workload.classes), np.float32)
        self._out = MNN.Tensor(self._logits.shape, MNN.Halide_Type_Float, self._logits, MNN.Tensor_DimensionType_Caffe)

    def step(self) -> None:
        self._input.copyFrom(self._x)
        self._interpreter.runSession(self._session)
        self._interpreter.getSessionOutput(self._session).copyToHostTensor(self._out)
        self._logits = self._out.getNumpyData()

    def outputs(self) -> Array:
        return self._logits


if __name__ == "__main__":
    serve(MnnEngine, Workload)
