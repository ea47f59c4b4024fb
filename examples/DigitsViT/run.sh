#!/usr/bin/env bash
# Builds the example and runs its demo: fetches MNIST, trains a MatViT for about four minutes, slices it, and writes a report.
#     bash examples/DigitsViT/run.sh [--data DIR] [options of the demo, such as --minutes 1]
# --data names the folder with the four files of MNIST. They are fetched into it if they are missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=out/mnist
arguments=()
while [ $# -gt 0 ]; do
    if [ "$1" = --data ]; then
        data=${2:?"--data needs a folder after it"}
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done
. build/setup.sh
bash examples/DigitsViT/get-mnist.sh "$data"
dotnet build examples/DigitsViT -c Release -v quiet --nologo >&2
exec dotnet run --project examples/DigitsViT -c Release --no-build -- demo \
    --data "$data" --objective sampled-per-layer --shift 2 "${arguments[@]}"
