#!/usr/bin/env bash
# Builds a wheel with each Python given, installs it into a fresh virtual environment and runs the tests on it.
#
#   tests/campaigns/pythons.sh PYTHON ...
#
# One line per Python at the end; the exit code is 1 when one of them failed.
set -uo pipefail
[ $# -gt 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

one() {
  set -e
  "$1" -m venv "$2/venv"
  "$2/venv/bin/python" -m pip wheel --no-deps -w "$2/wheel" "$root"
  "$2/venv/bin/python" -m pip install "$(echo "$2"/wheel/fastcnn-*.whl)[test]"
  cd "$root"
  "$2/venv/bin/python" -m pytest -q -p no:cacheprovider
}

status=0
summary=()
for python in "$@"; do
  name=$("$python" -c 'import platform; print(platform.python_version())') || exit 1
  (one "$python" "$work/$name") 2>&1 | tee "$work/$name.log"
  if [ "${PIPESTATUS[0]}" -eq 0 ]; then verdict=passed; else verdict=FAILED status=1; fi
  summary+=("Python $name: $verdict, $(tail -n 1 "$work/$name.log")")
done
printf '%s\n' "${summary[@]}"
exit $status
