#!/bin/sh
# Prints the include folder and the library folder of the libtorch to build with, one a line;
# or one line that says what is missing, with exit code 1.
# $1: a folder that the user gave, or nothing. $2: who gave it.
given=$1
given_by=$2
get="Get one by: apt-get install libtorch-dev libopenblas0-pthread g++ cmake make; or: pip install torch; or unpack a libtorch zip \
from pytorch.org and build with -p:LibTorchPath=FOLDER (or set the environment variable LIBTORCH)."

fail() {
    echo "$1"
    exit 1
}

# A zip and pip's torch hold include/ and lib/; Debian puts the libraries in a folder named after the machine.
try() {
    [ -f "$1/include/ATen/ATen.h" ] || return 1
    for lib in "$1/lib" "$1/lib64" "$1/lib/$(uname -m)-linux-gnu"; do
        if [ -f "$lib/libtorch_cpu.so" ] && [ -f "$lib/libc10.so" ]; then
            echo "$1/include"
            echo "$lib"
            exit 0
        fi
    done
    return 1
}

c++ --version > /dev/null 2>&1 || "${CXX:-false}" --version > /dev/null 2>&1 ||
    fail "A C++ compiler is missing, which MatFormer.LibTorch needs: apt-get install g++"
command -v cmake > /dev/null || fail "CMake is missing, which MatFormer.LibTorch needs: apt-get install cmake make (or: pip install cmake)"
command -v make > /dev/null || command -v ninja > /dev/null ||
    fail "CMake needs make or ninja, and neither is here: apt-get install make"

if [ -n "$given" ]; then
    try "$given"
    fail "No libtorch in '$given', which $given_by names: that folder needs include/ATen/ATen.h and lib/libtorch_cpu.so. $get"
fi

for prefix in /usr/local /usr /usr/local/libtorch /opt/libtorch; do
    try "$prefix"
done

python=$(python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")' 2> /dev/null)
if [ -n "$python" ]; then
    try "$python"
fi

fail "libtorch is not on this machine. $get"
