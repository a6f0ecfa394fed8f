"""ncnn in float32 with its default options. Needs ncnn.

A batch is a loop over images, each CHW and made before the clock starts.
"""

from __future__ import annotations

from pathlib import Path

import ncnn
import numpy as np
from protocol import Workload, require, serve
from seeded import Array


def _load(status: int, path: Path) -> None:
    if status != 0:
        raise OSError(f"ncnn: cannot load {path.name} (status {status})")


class NcnnEngine:
    version = f"ncnn {ncnn.__version__}"

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "ncnn", ("infer",))
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = workload.threads
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_packed = options.use_bf16_storage = False
        param, binary = workload.file(models, ".ncnn.param"), workload.file(models, ".ncnn.bin")
        _load(self._net.load_param(str(param)), param)
        _load(self._net.load_model(str(binary)), binary)
        # a Mat does not keep its array alive, a clone owns its numbers
        self._images = [ncnn.Mat(image).clone() for image in workload.images_nchw()]
        self._logits = np.empty((workload.batch, workload.classes), np.float32)

    def step(self) -> None:
        for image, logits in zip(self._images, self._logits, strict=True):
            extractor = self._net.create_extractor()
            extractor.input("in0", image)
            status, mat = extractor.extract("out0")
            if status != 0:
                raise RuntimeError(f"ncnn: extract failed (status {status})")
            logits[:] = np.asarray(mat)

    def outputs(self) -> Array:
        return self._logits


if __name__ == "__main__":
    serve(NcnnEngine, Workload)
