#!/usr/bin/env bash
# Builds the documentation site with docfx into artifacts/site/html. A broken link is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/setup.sh

# The tables of contents are those of docs/README.md and docs/diagnostics/README.md: a heading becomes a group, a row with a link an item.
contents() {
    awk -v to="$2" '
        /^## / { group = substr($0, 4); next }
        /^\| .*\[.*\]\(.*\.md\)/ {
            match($0, /\[[^]]*\]\([^)]*\)/)
            split(substr($0, RSTART + 1, RLENGTH - 2), link, /\]\(/)
            if (group != "") { printf "- name: %s\n  expanded: true\n  items:\n", group; written = 1; group = "" }
            printf "%s- name: %s\n%s  href: %s%s\n", (written ? "  " : ""), link[1], (written ? "  " : ""), to, link[2]
        }' "$1"
}
site=artifacts/site
rm -rf "$site"
mkdir -p "$site/pages/docs/diagnostics"
contents docs/README.md ../../../../docs/ >"$site/pages/docs/toc.yml"
contents docs/diagnostics/README.md ../../../../../docs/diagnostics/ >"$site/pages/docs/diagnostics/toc.yml"
cat >"$site/pages/toc.yml" <<'END'
- name: Documentation
  href: ../../../docs/README.md
- name: Diagnostics
  href: ../../../docs/diagnostics/README.md
- name: API
  href: api/
- name: Contributing
  href: ../../../CONTRIBUTING.md
- name: Changes
  href: ../../../CHANGELOG.md
END
printf -- '---\nredirect_url: README.html\n---\n' >"$site/pages/index.md"

for page in docs/*.md docs/*/*.md; do
    if [ "${page##*/}" != README.md ] && ! grep -rqF "/$page" "$site/pages/docs"; then
        echo "error: add '$page' to a table of docs/README.md, so that the site's table of contents has it" >&2
        exit 1
    fi
done

dotnet tool restore >/dev/null
# The benchmarks reference all libraries, so their folder has each library beside its doc comments and its dependencies.
dotnet build tests/MatFormer.Benchmarks -c Release --verbosity quiet --nologo
dotnet docfx metadata build/site/docfx.json --logLevel error
dotnet docfx build build/site/docfx.json --warningsAsErrors --logLevel warning
