#!/usr/bin/env bash
# Starts servers of DocsLm at the ports from 8081 on, and the proxy before them at 8080. Ctrl-C stops them all.
#     bash examples/Fleet/run.sh [replicas]
# out/DocsLm/model.safetensors must be there: `bash examples/run.sh --minutes 2` trains it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. build/setup.sh
count=${1:-2}
[ -f out/DocsLm/model.safetensors ] || { echo "error: train DocsLm first: bash examples/run.sh --minutes 2" >&2; exit 2; }
dotnet build examples/DocsLm -c Release -v quiet --nologo >&2
dotnet build examples/Fleet -c Release -v quiet --nologo >&2
servers=() replicas=()
trap 'kill "${servers[@]}" 2>/dev/null; wait' EXIT
for i in $(seq "$count"); do
    dotnet examples/DocsLm/bin/Release/net10.0/DocsLm.dll serve --port $((8080 + i)) --threads 1 &
    servers+=($!)
    replicas+=(--replica "http://127.0.0.1:$((8080 + i))")
done
dotnet examples/Fleet/bin/Release/net10.0/Fleet.dll --port 8080 "${replicas[@]}"
