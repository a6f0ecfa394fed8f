"""PyTorch's way: torchvision's ImageFolder, transforms v2 and a DataLoader; the variant is its number of workers.

Needs torch, torchvision and pillow. PyPI's torchvision for Linux is built for CUDA; beside a torch for CPUs it comes
without its compiled operators (`pip install --no-deps torchvision`, the release that goes with torch), which reading
and changing pictures do not use. Pictures are decoded, resized and changed by Pillow, as ImageFolder does by default.
Resizing smooths, and what a change leaves empty is black: torchvision has neither Keras' resizing nor its filling.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from loader import MODES, ROTATION, SHEAR, SHIFT, ZOOM, Loader, Pictures
from protocol import require, serve


@contextlib.contextmanager
def _without_operators() -> Iterator[None]:
    """Lets torchvision be imported where its compiled operators cannot be loaded: it describes them to torch."""
    register = torch.library.register_fake

    def known(name: Any, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        try:
            torch._C._dispatch_find_schema_or_throw(str(name), "")
        except RuntimeError:
            return lambda function: function
        return register(name, *arguments, **options)

    torch.library.register_fake = known  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.library.register_fake = register


with _without_operators():
    import torchvision
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2


class TorchLoader(Loader):
    version = f"torch {torch.__version__} torchvision {torchvision.__version__}"
    channels_first = True

    def __init__(self, work: Pictures, directory: Path) -> None:
        super().__init__()
        require(work, "torch", MODES, tuple(str(workers) for workers in range(work.threads + 1)))
        torch.set_num_threads(work.threads)
        bilinear = v2.InterpolationMode.BILINEAR
        changes: list[Any] = []
        if work.mode == "augmented":
            changes = [
                v2.RandomAffine(ROTATION, (SHIFT, SHIFT), (1 - ZOOM, 1 + ZOOM), SHEAR, interpolation=bilinear),
                v2.RandomHorizontalFlip(),
            ]
        else:
            self.whole = 255.0
        to_float = v2.ToDtype(torch.float32, scale=work.mode == "augmented")
        resize = v2.Resize((work.size, work.size), interpolation=bilinear)
        data = ImageFolder(str(directory / work.folder), v2.Compose([resize, *changes, v2.ToImage(), to_float]))
        workers = int(work.variant)
        self._batches = torch.utils.data.DataLoader(
            data, batch_size=work.batch, shuffle=False, num_workers=workers, persistent_workers=workers > 0
        )

    def batches(self) -> Iterable[tuple[Any, Any]]:
        return self._batches


if __name__ == "__main__":
    serve(TorchLoader, Pictures)
