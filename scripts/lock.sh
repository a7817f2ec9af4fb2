#!/usr/bin/env bash
# Pins every dependency, with the hashes of the registry's files, into requirements/.
#
#   scripts/lock.sh             keep pinned versions; add new dependencies, drop removed ones
#   scripts/lock.sh --upgrade   take the newest version of each dependency
#
# Dependencies are resolved with the oldest supported Python; they must install with the newest supported Python too.
set -euo pipefail
cd "$(dirname "$0")/.."

# Local packages or constraints of this machine would lock hashes that other machines cannot get. An empty
# variable overrides pip's configuration files.
export PIP_FIND_LINKS='' PIP_CONSTRAINT='' PIP_EXTRA_INDEX_URL='' PIP_NO_INDEX=''

python=.venv/bin/python
[ -x "$python" ] || { echo "lock: no .venv; run scripts/setup.sh first" >&2; exit 1; }
oldest=$("$python" -c 'import sys; print(sys.version_info[:2] == (3, 11))')
[ "$oldest" = True ] || { echo "lock: resolve with Python 3.11, the oldest supported version" >&2; exit 1; }

source=pyproject.toml

compile() {  # compile OUTPUT [pip-compile options]; reads $source
    local output=$1
    shift
    echo "lock: resolving $output"
    "$python" -m piptools compile --quiet --no-config --resolver backtracking \
        --generate-hashes --allow-unsafe --strip-extras \
        --no-header --no-emit-options --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --output-file "$output" "$@" "$source"
}

compile requirements/lock.txt --extra otlp --extra kubernetes "$@"
compile requirements/build.txt --build-deps-for wheel --only-build-deps "$@"
compile requirements/dev.txt --extra otlp --extra kubernetes --extra test --extra bench \
    --constraint requirements/lock.txt "$@"
# The site has its own packages, because building it imports no module of the product.
source=$(mktemp --suffix .in)
trap 'rm -f "$source"' EXIT
"$python" - >"$source" <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"]["docs"], sep="\n")
PYTHON
compile requirements/docs.txt --constraint requirements/dev.txt --no-annotate "$@"

if grep -nE '://|find-links|index-url|^-' requirements/*.txt; then
    echo "lock: the lines above have a URL or an option; they must not be committed" >&2
    exit 1
fi
echo "lock: $(grep -cE '^[a-z0-9].*==' requirements/dev.txt) packages pinned"
