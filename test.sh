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
# SQLite is compiled from C.
if ! command -v cc >/dev/null; then
  say "installing a C compiler"
  if command -v apt-get >/dev/null; then
    ${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)} apt-get update -qq
    ${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)} apt-get install -y -qq gcc libc6-dev
  else
    echo "there is no C compiler: install one (gcc or clang) and start again" >&2
    exit 1
  fi
fi

# The tests start servers of their own.
if ! command -v redis-server >/dev/null || ! command -v openssl >/dev/null; then
  say "installing redis-server, and openssl for certificates"
  if command -v apt-get >/dev/null; then
    ${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)} apt-get update -qq
    # A policy that starts no service: nothing of it is needed but the program.
    ${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)} env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq redis-server openssl
  else
    echo "there is no redis-server (7.0 or newer, or valkey under that name) or no openssl: install them and start again" >&2
    exit 1
  fi
fi

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
fi
say "tests"
cargo test --workspace --locked
say "tests of what is off by default"
cargo test --locked --features otel --test otel
