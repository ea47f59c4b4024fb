#!/usr/bin/env bash
# Builds everything and runs every test; ends with the line `N passed, N failed`, summed over the test projects.
set -uo pipefail
cd "$(dirname "$0")/.."
. build/setup.sh

dotnet build MatFormer.Dsl.sln -c Release -v quiet --nologo || { echo "the build failed"; exit 1; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export logs

# Two projects at a time, since much of each is the work of one thread; each one's output whole, when it is done. libtorch's threads that wait
# leave their core to the other project; the longest one has a single thread, which is sooner done than two that wait for each other. That one
# runs twice: with fused kernels, and with TorchSharp's operations, as other devices do.
export OMP_WAIT_POLICY=passive

# TorchSharp lets go of a number before libtorch has read it (src/MatFormer.Runtime/Kernels/Composite/Numbers.cs). The libraries take care;
# tests write x * 2 as users do, so the garbage collector shall seldom run.
export DOTNET_GCgen0size=0x8000000 DOTNET_gcConcurrent=0
status=0
# The longest first, so that neither core is left alone with one at the end.
runs=$(printf '%s\n' "tests/MatFormer.Functional.Tests composite" tests/*.Functional.Tests tests/*.Packages.Tests tests/*.Tests | awk '!seen[$0]++')
xargs -P 2 -I{} bash -c '
    read -r project level <<<"$1"
    log=$logs/$(basename "$project")$level
    [ -z "$level" ] || export MATFORMER_KERNELS=$level
    case $project in *.Functional.Tests) export OMP_NUM_THREADS=1 ;; esac
    dotnet test "$project" -c Release --no-build --nologo >"$log" 2>&1
    code=$?
    flock "$logs" cat "$log"
    exit $code' - {} <<<"$runs" || status=1

passed=0 failed=0
while read -r project level; do
    # Passed!  - Failed:     0, Passed:    12, Skipped:     0, Total:    12, Duration: ...
    counts=$(sed -nE 's/.*Failed: +([0-9]+), Passed: +([0-9]+),.*/\1 \2/p' "$logs/$(basename "$project")$level" | tail -n 1)
    if [ -z "$counts" ]; then
        echo "error: $project ran no test" >&2
        status=1
        counts="1 0"
    fi
    failed=$((failed + ${counts% *})) passed=$((passed + ${counts#* }))
done <<<"$runs"

echo "$passed passed, $failed failed"
[ "$status" = 0 ] && [ "$failed" = 0 ]
