#!/usr/bin/env bash
# Runs the kernels' tests on the amx level with its tile instructions in plain C++, on any machine:
#
#     native/emulate_amx.sh                       # what tests/ops/test_native*.py have for amx
#     native/emulate_amx.sh tests/ops -k drawn    # anything that pytest takes
#
# PYTHON names the interpreter (.venv/bin/python). Needs CMake and a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

cmake -S native -B build/emulate_amx -DHSPAN_EMULATE_AMX=ON -DHSPAN_LEVELS="portable;avx2;amx"
cmake --build build/emulate_amx --parallel
(($#)) || set -- tests/ops/test_native.py tests/ops/test_native_dense.py tests/ops/test_native_prefix.py \
  tests/ops/test_native_short.py tests/ops/test_native_tiles.py -k amx
HSPAN_LIBRARY=$PWD/build/emulate_amx/_kernels.so HSPAN_ISA=amx \
  "$python" -m pytest -p no:cacheprovider "$@"
