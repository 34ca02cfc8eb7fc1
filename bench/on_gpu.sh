#!/usr/bin/env bash
# All that waits for a GPU, in one go: builds the extension for the GPU at hand, runs tests/gpu and
# the benches of CUDA, and leaves their output and JSON in a folder. What fails does not stop the
# rest; the last lines say how each part ended.
#
#   bash bench/on_gpu.sh OUT [PART...]        parts: tests hog whitening neighbors linkage batches
#                                             training fit sanitizer; default: all but the last two
#
#   PYTHON          an interpreter with torch for CUDA (default: python3)
#   PART_SECONDS    a part is stopped after this (default: 120)
#   BUILT           set: the extension is there already, and is not built
#   TOTAL_SECONDS   what has not ended by then is stopped or left out (default: none)
#
# Files of tests run side by side, each in its own process: an error that spoils a process's CUDA
# context fails one file alone. Nothing is fetched: wheels in the folder wheelhouse are installed
# first, e.g. from
#   pip download --only-binary :all: --python-version 3.12 --no-deps -d wheelhouse \
#       pydantic pydantic-core annotated-types typing-inspection typing-extensions cmeel cmeel-eigen
# and a wheel of cuhc, which PyPI has as source alone, for bench/linkage_cuda.py.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?the folder for the results}")
shift
parts=("$@")
((${#parts[@]})) || parts=(tests hog whitening neighbors linkage batches training)
python=${PYTHON:-python3}
limit=${PART_SECONDS:-120}
total=${TOTAL_SECONDS:-100000}
mkdir -p "$out"
export PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}"

if [ -d wheelhouse ]; then
    "$python" -m pip install -q --no-index --no-deps wheelhouse/*.whl || exit 1
fi
build() {
    local architecture
    architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
        head -1 | tr -d .)
    cmake -S . -B build/gpu -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
        -DCLIQUESIM_INPLACE=ON -DCLIQUESIM_SIMD_LEVELS="baseline;avx512" -DCLIQUESIM_CUDA=ON \
        -DCMAKE_CUDA_ARCHITECTURES="${architecture:-90}" && cmake --build build/gpu
}
if [ -z "${BUILT:-}" ] && ! build >"$out/build.log" 2>&1; then
    tail -n 40 "$out/build.log"
    exit 1
fi
"$python" -m cliquesim doctor | tee "$out/doctor.txt"

summary=()
part() { # name, command...
    local name=$1 start=$SECONDS code
    shift
    stopped_in_time "$@" >"$out/$name.log" 2>&1
    code=$?
    summary+=("$name: exit $code after $((SECONDS - start)) s")
    printf '\n== %s\n' "${summary[-1]}"
    tail -n 25 "$out/$name.log"
}
stopped_in_time() {
    local left=$((total - SECONDS))
    ((left > 0)) || return 124
    timeout -k 5 $((left < limit ? left : limit)) "$@"
}
# Files of tests side by side, a quarter of the cores each, or the threads of all would wait for each
# other.
side_by_side() { # what, command...
    local what=$1 file name selected start=$SECONDS cores first=0
    shift
    cores=$(nproc)
    declare -A started=()
    for file in tests/gpu/test_*.py; do
        name=$(basename "$file" .py)
        selected=()
        if [ "$what" = sanitizer ]; then
            [ -n "${small[$name]:-}" ] || continue
            selected=(-k "${small[$name]}")
        fi
        stopped_in_time taskset -c "$first-$((first + (cores + 3) / 4 - 1))" "$@" -W default -q \
            -rfE -p no:cacheprovider --durations 3 "${selected[@]}" "$file" \
            >"$out/$what-$name.log" 2>&1 &
        started[$name]=$!
        first=$(((first + (cores + 3) / 4) % cores))
    done
    for name in "${!started[@]}"; do
        wait "${started[$name]}"
        summary+=("$what, $name: exit $?, $(grep -E ' (passed|failed|skipped)' \
            "$out/$what-$name.log" | tail -n 1)")
        printf '\n== %s\n' "${summary[-1]}"
        grep -E '^(FAILED|ERROR)|ERROR SUMMARY' "$out/$what-$name.log"
    done
    summary+=("$what: $((SECONDS - start)) s")
}
# What reaches every kernel of ours and is quick: a checked program is many times slower.
declare -A small=(
    [test_batches]="kicks and 150 or sums_over_rows or relaxed and 7-33"
    [test_hog]="against_the_cpu or blocks_overlap"
    [test_linkage]="without_ties and 100 or ties_are and grid or vectors and euclidean or several"
    [test_neighbors]="against_numpy and 70 or first_against_numpy and peaky or quantiles"
    [test_temporal]="against_the_cpu"
    [test_training]="activation and 8 and not 256 or adagrad or networks_input and 64"
    [test_whitening]="against_the_cpu and 5 and not 513"
)
declare -A more=([linkage]="--n 50000 100000" [training]="--kernels 30" [fit]="--frames 20000")
for name in "${parts[@]}"; do
    case $name in
    tests) side_by_side tests "$python" -m pytest ;;
    sanitizer)
        side_by_side sanitizer compute-sanitizer --error-exitcode 9 "$python" -m pytest -o timeout=0
        ;;
    *) part "$name" "$python" "bench/${name}_cuda.py" ${more[$name]:-} \
        --output "$out/${name}_cuda.json" ;;
    esac
done
printf '\n'
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
