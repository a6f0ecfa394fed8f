#!/usr/bin/env bash
# The engine under AddressSanitizer and UndefinedBehaviorSanitizer: first the driver, then the extension with the tests of
# the operations (or those named). Takes about ten minutes on two cores.
#
#   tests/campaigns/sanitizers.sh [pytest argument ...]
#
# PYTHON (default python3) needs numpy, pillow, safetensors, tqdm, pytest, hypothesis and pybind11; also cmake and g++.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
build=build/sanitizers
[ $# -gt 0 ] || set -- tests/ops

cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFASTCNN_SANITIZE=address,undefined \
  -DCMAKE_CXX_FLAGS="-D_GLIBCXX_ASSERTIONS -fno-omit-frame-pointer" \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
cmake --build "$build" -j "$(nproc)" --target fastcnn_driver _core

export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0  # the interpreter keeps memory until it ends
export UBSAN_OPTIONS=print_stacktrace=1
"$build/fastcnn_driver"

. tests/campaigns/package_copy.sh
# The interpreter is not instrumented, so the run-time libraries must be there before it starts.
LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so)" \
  PYTHONPATH="$package" "$python" -m pytest -p no:cacheprovider "$@"
