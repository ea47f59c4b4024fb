#!/bin/sh
# Builds libmatformer_cpu: build.sh CXX OUTPUT [BUILD_DIR]. Object files stay in BUILD_DIR, so that only changed files are compiled again.
# CXX is GCC 12 or later, or Clang. It may be a cross compiler: x86-64 or ARM, Linux or Windows (MinGW).
set -eu

[ $# -ge 2 ] || { echo "usage: $0 CXX OUTPUT [BUILD_DIR]" >&2; exit 2; }
cxx=$1
output=$2
source=$(cd "$(dirname "$0")" && pwd)
if [ $# -ge 3 ]; then
    build=$3
    mkdir -p "$build"
else
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
fi
target=$($cxx -dumpmachine)

flags="-std=c++17 -O3 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -Wall -Wextra -Werror"
# Loops are compiled once per instruction set, and one is chosen at run time (kernels_dispatch.cpp). The compiler may fuse products and sums
# into multiply-adds. Vector types that an instruction set lacks are passed in memory, which inlining removes (-Wno-psabi). GCC 12 warns
# about its own intrinsics (-Wno-uninitialized, -Wno-maybe-uninitialized). Clang lacks the latter option (-Wno-unknown-warning-option).
loops="-ffp-contract=fast -fno-math-errno -fno-strict-aliasing -fno-exceptions -Wno-psabi -Wno-uninitialized -Wno-maybe-uninitialized"
avx512="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512"
link="-shared -s -static-libstdc++ -static-libgcc"
case $target in
    *mingw* | *windows*)
        # On Windows a stack is aligned to 16 bytes. GCC ignores that for wider vectors and would use aligned moves.
        loops="$loops -Wa,-muse-unaligned-vector-move"
        link="$link -static"
        ;;
    # The library's threads run until the process ends, so the library must not be unloaded (nodelete).
    *) link="$link -pthread -Wl,--no-undefined -Wl,-z,nodelete -Wl,--gc-sections -Wl,--exclude-libs,ALL" ;;
esac
case $(echo | $cxx -dM -E -x c++ -) in
    *__clang__*) flags="$flags -Wno-unknown-warning-option" ;;
esac

# flags_of SOURCE: prints the additional flags of one source file.
flags_of() {
    case $target:$1 in
        x86_64*:kernels_cpu_avx2) echo "$loops -mavx2 -mfma" ;;
        x86_64*:kernels_cpu_avx512) echo "$loops $avx512" ;;
        x86_64*:kernels_cpu_avx512_bf16 | x86_64*:kernels_cpu_amx) echo "$loops $avx512 -mavx512bf16" ;;
        *:kernels_cpu_*) echo "$loops" ;;
    esac
}

# changed NAME: succeeds if the object file is missing, was made by another compiler, or is older than its source, a header or this script.
changed() {
    [ -f "$build/$1.o" ] || return 0
    [ -z "$(find "$source/$1.cpp" "$source"/*.h "$source/build.sh" "$build/compiler" -newer "$build/$1.o")" ] && return 1
    return 0
}
compiler="$cxx $target $($cxx -dumpfullversion -dumpversion)"
[ "$(cat "$build/compiler" 2>/dev/null)" = "$compiler" ] || echo "$compiler" > "$build/compiler"

pending=
set --
for path in "$source"/*.cpp; do
    name=$(basename "$path" .cpp)
    set -- "$@" "$build/$name.o"
    if changed "$name"; then pending="$pending $name"; fi
done

# The loops take longest, so they are compiled first.
for first in $pending; do
    case $first in kernels_cpu_*) echo "$first" ;; esac
done > "$build/pending"
for rest in $pending; do
    case $rest in kernels_cpu_*) ;; *) echo "$rest" ;; esac
done >> "$build/pending"
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# An object file gets its name only when it is complete. xargs may run its command once even without input, hence the check of $#.
while read -r name; do
    object="'$build/$name"
    printf '%s\0' "$cxx $flags $(flags_of "$name") -pthread -c '$source/$name.cpp' -o $object.part' && mv $object.part' $object.o'"
done < "$build/pending" | xargs -0 -n 1 -P "$jobs" sh -c '[ $# -eq 0 ] || eval "$1"' compile

mkdir -p "$(dirname "$output")"
$cxx "$@" $link -o "$output.part"
mv "$output.part" "$output"
