# The scripts of this repository source this file. It installs what a fresh Debian or Ubuntu lacks, and says what to do elsewhere.
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! command -v dotnet >/dev/null; then
    echo "error: the .NET SDK 10 is not installed (https://dot.net); 'dotnet' must be on PATH" >&2
    exit 1
fi

# With a C++ compiler, the build makes fused kernels for this CPU. Without them everything works, but training is several times slower.
if ! command -v c++ >/dev/null && [ -z "${MATFORMER_NO_COMPILER:-}" ]; then
    if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
        echo "installing g++ (set MATFORMER_NO_COMPILER=1 to go on without it)" >&2
        { as_root apt-get update -qq \
            && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null; } \
            || echo "g++ could not be installed; going on without it" >&2
    else
        echo "there is no C++ compiler (g++): training is several times slower without it" >&2
    fi
fi
