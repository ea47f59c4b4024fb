#!/usr/bin/env bash
# Builds everything and runs every test; ends with the line `N passed, N failed`, summed over the test projects.
set -uo pipefail
cd "$(dirname "$0")/.."
. build/setup.sh

dotnet build MatFormer.Dsl.sln -c Release -v quiet --nologo || { echo "the build failed"; exit 1; }

passed=0 failed=0 status=0
for project in tests/*.Tests; do
    output=$(dotnet test "$project" -c Release --no-build --nologo 2>&1) || status=1
    printf '%s\n' "$output"
    # Passed!  - Failed:     0, Passed:    12, Skipped:     0, Total:    12, Duration: ...
    counts=$(printf '%s\n' "$output" | sed -nE 's/.*Failed: +([0-9]+), Passed: +([0-9]+),.*/\1 \2/p' | tail -n 1)
    if [ -z "$counts" ]; then
        echo "error: $project ran no test" >&2
        status=1
        counts="1 0"
    fi
    failed=$((failed + ${counts% *})) passed=$((passed + ${counts#* }))
done

echo "$passed passed, $failed failed"
[ "$status" = 0 ] && [ "$failed" = 0 ]
