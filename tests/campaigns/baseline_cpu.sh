#!/usr/bin/env bash
# The extension on the oldest processors that it promises to run on, emulated: Nehalem (x86-64-v2) must take the base
# kernels, Haswell (x86-64-v3) AVX2; on an older processor the import must fail with a sentence, not with a crash.
#
#   tests/campaigns/baseline_cpu.sh [PYTHON]
#
# PYTHON (default python3) must have fastcnn installed. Needs qemu-user; installs it with apt-get when it is missing.
set -euo pipefail
python=$(command -v "${1:-python3}")
smoke=$(dirname "$0")/smoke.py
if ! command -v qemu-x86_64 > /dev/null; then
  apt-get update
  apt-get install -y --no-install-recommends qemu-user
fi
export OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=1
qemu-x86_64 -cpu Nehalem "$python" "$smoke" base
qemu-x86_64 -cpu Haswell "$python" "$smoke" base avx2
qemu-x86_64 -cpu core2duo "$python" "$smoke" --refused
