#!/usr/bin/env bash
# Installs cliquesim with its test extra into a virtual environment and runs every test:
# the C++ tests (address and undefined-behaviour sanitizers) and the Python tests.
#
#   CLIQUESIM_VENV    the environment to make or use (default: .venv)
#   CLIQUESIM_WERROR  ON makes compiler warnings errors (default: OFF)
#   Arguments go to pytest, e.g.  bash tests/run.sh -k linkage
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(realpath -m "${CLIQUESIM_VENV:-.venv}")
werror=${CLIQUESIM_WERROR:-OFF}

packages=(g++ cmake ninja-build doctest-dev libvlfeat-dev python3-venv)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if ((${#missing[@]})); then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# The CPU build of torch is enough; naming it first keeps pip from choosing a CUDA build.
"$venv/bin/pip" install -q "torch==2.13.0"
"$venv/bin/pip" install -q "scikit-build-core>=0.10" "pybind11>=3.0" "cmeel-eigen>=3.4.1"
"$venv/bin/pip" install -q --no-build-isolation --config-settings "cmake.define.CLIQUESIM_WERROR=$werror" ".[test]"

cmake -S . -B build/tests -G Ninja -DPython_EXECUTABLE="$venv/bin/python" \
    -DCLIQUESIM_BUILD_TESTS=ON -DCLIQUESIM_SIMD_LEVELS=baseline -DCLIQUESIM_CUDA=OFF \
    -DCLIQUESIM_WERROR="$werror" -DCLIQUESIM_SANITIZE=address,undefined >/dev/null
cmake --build build/tests --target cliquesim_tests
ctest --test-dir build/tests --output-on-failure

"$venv/bin/python" -m pytest "$@"
