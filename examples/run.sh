#!/usr/bin/env bash
# Builds the example and runs its demo: trains a MatLM for about four minutes, slices it, and writes a report.
# Arguments go to the program: `bash examples/run.sh --minutes 1`.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/setup.sh
echo "building $PWD/examples/DocsLm; the first time this fetches TorchSharp with its libtorch, some 130 MB" >&2
dotnet build examples/DocsLm -c Release -v quiet --nologo >&2
exec dotnet run --project examples/DocsLm -c Release --no-build -- demo "$@"
