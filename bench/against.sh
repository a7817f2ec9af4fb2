#!/usr/bin/env bash
# Measures another IPAM plugin side by side with Orbweaver: the same driver, machine and calls, in turns.
#
#   bench/against.sh --help
#   CNI_PATH=/usr/lib/cni bench/against.sh host-local.json
#
# Everything it starts is on loopback and in a directory of its own, and is gone when it ends.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "against: there is no environment at $root/.venv; run: make -C $root setup" >&2
    exit 2
fi
exec "$python" -m bench.against "$@"
