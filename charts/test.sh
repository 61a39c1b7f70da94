#!/usr/bin/env bash
# Tests of the chart, its alerts, its dashboard and the Dockerfile, with the engine of Helm and the program but without a cluster.
#
#   charts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."

install() {
  if ! command -v apt-get >/dev/null; then
    echo "missing: install $* and start again" >&2
    exit 1
  fi
  local root=${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)}
  $root apt-get update -qq
  # A policy that starts no service: nothing of it is needed but the program.
  $root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@"
}

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  install python3 python3-venv
fi
# promtool is in the package of the server.
if ! command -v promtool >/dev/null; then
  install prometheus
fi
if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then
  install redis-server
fi

venv=target/chart-venv
pins=charts/tests/requirements.txt
# The copy of the pins is put there last: an installation that was broken off is done again.
if ! cmp -s "$pins" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins"
  cp "$pins" "$venv/installed.txt"
fi

# What the chart says to the program is said to the program.
cargo build --locked --quiet --bin tasklog

python3 charts/make_schema.py --check
"$venv/bin/python" -B -m pytest -q -p no:cacheprovider charts/tests "$@"
