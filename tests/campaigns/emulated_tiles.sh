#!/usr/bin/env bash
# The set amx on a processor without AMX: an engine whose tile instructions are plain loops, with the tests of convolution
# or those named. Any processor with AVX-512 will do; it takes some ten minutes.
#
#   tests/campaigns/emulated_tiles.sh [pytest argument ...]
#
# PYTHON (default python3) needs what fastcnn and its tests do and pybind11; also cmake and g++.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
build=build/emulated_tiles
[ $# -gt 0 ] || set -- tests/ops/test_conv.py tests/ops/test_conv_range.py tests/ops/test_streaming.py

cmake -S . -B "$build" -DFASTCNN_EMULATED_TILES=ON -DFASTCNN_TEST_ISAS=OFF \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
cmake --build "$build" -j "$(nproc)" --target fastcnn_driver _core
"$build/fastcnn_driver" amx

. tests/campaigns/package_copy.sh
PYTHONPATH="$package" "$python" -m pytest -p no:cacheprovider "$@"
