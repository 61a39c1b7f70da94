#!/usr/bin/env bash
# Installs what is missing and runs everything that CI runs. Changes nothing in the working tree.
#
#   ./test.sh          everything
#   ./test.sh quick    the tests alone
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }

if ! command -v cargo >/dev/null; then
  say "installing Rust"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
  # shellcheck disable=SC1091
  . "$HOME/.cargo/env"
fi
. testing/install.sh
# SQLite is compiled from C.
need cc gcc libc6-dev
# The tests start servers of their own: redis-server 7.0 or newer, or valkey under that name.
need redis-server redis-server
# The examples of docs/http.md are run.
need curl curl
# For certificates.
need openssl openssl
# It checks metrics and alerts; the package is the server's.
need promtool prometheus

if [ "${1:-}" != quick ]; then
  say "format"
  cargo fmt --all -- --check
  say "lints"
  cargo clippy --workspace --all-targets --locked -- -D warnings
  cargo check --locked --features cloud,otel
  cargo check --locked --no-default-features
  say "documentation"
  RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
  say "chart"
  charts/test.sh
  say "http"
  tests/http/test.sh
fi
say "tests"
cargo test --workspace --locked
say "tests of what is off by default"
cargo test --locked --features otel --lib serve::otlp
cargo test --locked --features otel --test otel
