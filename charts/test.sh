#!/usr/bin/env bash
# Tests of the chart, its alerts, its dashboard and the Dockerfile, with the engine of Helm and the program but without a cluster.
#
#   charts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."

. testing/install.sh
# It is in the package of the server.
need promtool prometheus
need redis-server redis-server
need redis-cli redis-tools

venv=target/chart-venv
venv "$venv" charts/tests/requirements.txt

# What the chart says to the program is said to the program.
cargo build --locked --quiet --bin tasklog

python3 charts/make_schema.py --check
"$venv/bin/python" -B -m pytest -q -p no:cacheprovider charts/tests "$@"
