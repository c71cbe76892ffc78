#!/usr/bin/env bash
# Runs the kernels' tests on a library built with the address and undefined-behaviour sanitizers:
#
#     native/sanitize.sh                          # tests/ops/test_native*.py
#     native/sanitize.sh tests/ops -k backward    # anything that pytest takes
#
# AMX is emulated in plain C++, so that its code is checked wherever this runs: the accesses to
# memory are the same. PYTHON names the interpreter (.venv/bin/python), CXX the compiler (g++).
# Needs CMake and GCC.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export CXX=${CXX:-g++}

cmake -S native -B build/sanitize -DHSPAN_SANITIZE=ON -DHSPAN_EMULATE_AMX=ON
cmake --build build/sanitize --parallel

# Python itself isn't built with the sanitizers, so their runtime has to be there before it; so has
# the C++ runtime, or they would not find the functions for exceptions, which torch throws.
runtime="$("$CXX" -print-file-name=libasan.so) $("$CXX" -print-file-name=libstdc++.so)"
(($#)) || set -- tests/ops/test_native.py tests/ops/test_native_in_torch.py \
  tests/ops/test_native_dense.py tests/ops/test_native_prefix.py \
  tests/ops/test_native_short.py tests/ops/test_native_tiles.py tests/ops/test_residual.py
# No search for leaks: what Python and torch keep until the end would be reported as such.
HSPAN_LIBRARY=$PWD/build/sanitize/_kernels.so LD_PRELOAD=$runtime \
  ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
  "$python" -m pytest -p no:cacheprovider "$@"
