"""The package's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastcnn


@pytest.mark.parametrize("name", fastcnn.__all__)
def test_every_public_name_exists(name):
    assert getattr(fastcnn, name) is not None
    assert name in dir(fastcnn)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fastcnn' has no attribute 'nonsense'"):
        _ = fastcnn.nonsense


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, fastcnn;"
        "found = {'numpy', 'PIL', 'tqdm', 'safetensors', 'matplotlib', 'fastcnn._core'} & set(sys.modules);"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_need_no_third_party_but_numpy():
    code = (
        "import sys, fastcnn.models, fastcnn.layers;"
        "found = {'PIL', 'tqdm', 'safetensors', 'matplotlib', 'concurrent.futures'} & set(sys.modules);"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
