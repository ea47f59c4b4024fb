# Sourced by examples/run.sh and tests/run.sh: installs what a fresh Debian or Ubuntu lacks, and says what to do elsewhere.
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! command -v dotnet >/dev/null; then
    echo "error: the .NET SDK 10 is not installed (https://dot.net); 'dotnet' must be on PATH" >&2
    exit 1
fi

has_libtorch() {
    [ -n "${LIBTORCH:-}" ] || [ -e /usr/include/torch/csrc/api/include/torch/torch.h ] || python3 -c 'import torch' 2>/dev/null
}

missing=
has_libtorch || missing="$missing libtorch-dev libopenblas0-pthread"
command -v c++ >/dev/null || missing="$missing g++"
command -v cmake >/dev/null || missing="$missing cmake"
command -v make >/dev/null || command -v ninja >/dev/null || missing="$missing make"
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "error: install these first, by your system's means:$missing (or pip install torch for libtorch)" >&2
        exit 1
    fi
    echo "installing$missing" >&2
    # shellcheck disable=SC2086
    as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
