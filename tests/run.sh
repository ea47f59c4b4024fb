#!/usr/bin/env bash
# Builds everything and runs every test. The last line is `N passed, N failed`, summed over the test projects.
set -uo pipefail
cd "$(dirname "$0")/.."
. build/setup.sh

dotnet build MatFormer.Dsl.sln -c Release -v quiet --nologo || { echo "the build failed"; exit 1; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export logs ORACLE_COUNTS=$logs

# Two projects run at a time, because much of the work of each is in one thread. The output of a project is printed when it has ended.
# OMP_WAIT_POLICY lets waiting threads of libtorch leave their core to the other project. The functional tests, which take longest, have one
# thread each: that is faster than two threads that wait for each other. They run twice: with fused kernels, and with TorchSharp's
# operations, which other devices use. Tests with the trait Kernels=any run once, because they do not depend on the kernels or try both.
export OMP_WAIT_POLICY=passive

# TorchSharp lets go of a number before libtorch has read it (src/MatFormer.Runtime/Kernels/Composite/Numbers.cs). The libraries avoid the
# problem, but tests write x * 2 as users do. With these settings the garbage collector runs seldom.
export DOTNET_GCgen0size=0x8000000 DOTNET_gcConcurrent=0
status=0
# The longest projects come first, so that neither core is idle at the end.
runs=$(printf '%s\n' "tests/MatFormer.Functional.Tests composite" tests/*.Functional.Tests tests/*.Packages.Tests tests/*.Tests \
    | awk '!seen[$0]++')
xargs -P 2 -I{} bash -c '
    read -r project level <<<"$1"
    log=$logs/$(basename "$project")$level
    filter=()
    [ -z "$level" ] || { export MATFORMER_KERNELS=$level; filter=(--filter "Kernels!=any"); }
    case $project in *.Functional.Tests) export OMP_NUM_THREADS=1 ;; esac
    dotnet test "$project" -c Release --no-build --nologo "${filter[@]}" >"$log" 2>&1
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

# What the tests compared with other programs, summed over both kernels.
echo "Values compared with other programs:"
cat "$logs"/*.oracles | awk '{ count = $1; $1 = ""; sums[$0] += count } END { for (its in sums) printf "%12d %s\n", sums[its], its }' \
    | LC_ALL=C sort -k 2

echo "$passed passed, $failed failed"
[ "$status" = 0 ] && [ "$failed" = 0 ]
