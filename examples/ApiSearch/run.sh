#!/usr/bin/env bash
# Builds the example and runs its demo: trains a MatEncoder for about four minutes, indexes the documentation and measures the search.
#     bash examples/ApiSearch/run.sh [options of the demo, such as --minutes 1]
set -euo pipefail
cd "$(dirname "$0")/../.."
. build/setup.sh
dotnet build examples/ApiSearch -c Release -v quiet --nologo >&2
exec dotnet run --project examples/ApiSearch -c Release --no-build -- demo "$@"
