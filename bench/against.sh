#!/usr/bin/env bash
# Measures another IPAM plugin and Orbweaver alternately, with the same calls on the same machine.
#
#   bench/against.sh --help
#   CNI_PATH=/usr/lib/cni bench/against.sh host-local.json
#
# It listens only on loopback and uses one directory; at the end it stops all processes and removes the directory.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "against: there is no environment at $root/.venv; run: make -C $root setup" >&2
    exit 2
fi
exec "$python" -m bench.against "$@"
