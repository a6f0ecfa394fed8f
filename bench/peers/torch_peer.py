"""PyTorch, CPU, in three variants. Needs torch and safetensors.

"" is eager NCHW, "channels_last" eager NHWC, "compile" TorchInductor with weights frozen for inference.

Training is Adam with cross-entropy on one fixed batch, without dropout. "compile" needs a C++ compiler at run time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from protocol import LEARNING_RATE, MODES, Workload, require, serve
from safetensors.torch import load_file
from seeded import Array, seeded_labels
from torch_models import build


class TorchEngine:
    version = f"torch {torch.__version__}"

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "torch", MODES, ("", "channels_last", "compile"))
        torch.set_num_threads(workload.threads)
        with torch.device("meta"):  # the file's tensors take the place of the parameters
            model = build(workload.model, workload.size, workload.classes, seed=None)
        model.load_state_dict(load_file(workload.file(models, ".safetensors")), assign=True)
        x = torch.from_numpy(workload.images_nchw())
        if workload.variant == "channels_last":
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
            x = x.contiguous(memory_format=torch.channels_last)
        self._train = workload.mode == "train"
        self._parameters = [parameter.requires_grad_(self._train) for parameter in model.parameters()]
        self._x = x
        self._target = torch.from_numpy(seeded_labels(workload.batch, workload.classes))
        self._losses: list[float] = []
        self._logits: Array
        model.train(self._train)
        if self._train:
            self._optimizer = torch.optim.Adam(self._parameters, LEARNING_RATE[workload.model], eps=1e-7, fused=True)
        if workload.variant == "compile":
            torch._inductor.config.freezing = not self._train
            torch._inductor.config.compile_threads = 1  # no pool of compiler processes beside the measurement
            self._model = torch.compile(model)
        else:
            self._model = model

    def step(self) -> None:
        if not self._train:
            with torch.inference_mode():
                self._logits = self._model(self._x).numpy()
            return
        self._optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self._model(self._x), self._target)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        value = loss.item()
        if len(self._losses) < 2:
            self._losses.append(value)

    def outputs(self) -> Array:
        return np.array(self._losses, np.float32) if self._train else self._logits


if __name__ == "__main__":
    serve(TorchEngine, Workload)
