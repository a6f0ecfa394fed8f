from __future__ import annotations

import subprocess
import sys

import fastcnn.data
import fastcnn.utils


def test_keras_names_are_there() -> None:
    for name in fastcnn.utils.__all__:
        assert callable(getattr(fastcnn.utils, name))
    assert fastcnn.utils.image_dataset_from_directory is fastcnn.data.image_dataset_from_directory


def test_pillow_is_imported_only_when_a_picture_is_read() -> None:
    code = "import fastcnn.utils, fastcnn.data, sys; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
