#!/usr/bin/env bash
# The kernels for 64-bit ARM: compiles them and the driver for that processor and runs the driver under an emulator.
#
#   tests/campaigns/aarch64.sh
#
# Needs cmake, g++-aarch64-linux-gnu and qemu-user; installs the last two with apt-get when they are missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/aarch64
if ! command -v aarch64-linux-gnu-g++ > /dev/null || ! command -v qemu-aarch64 > /dev/null; then
  apt-get update
  apt-get install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user
fi
cmake -S . -B "$build" -DFASTCNN_PYTHON=OFF -DFASTCNN_WERROR=ON -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
cmake --build "$build" -j "$(nproc)" --target fastcnn_driver
qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/fastcnn_driver" neon
