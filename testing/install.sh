# Sourced by the scripts that test: installs what a fresh machine lacks.

# install PACKAGE...: Debian's packages.
install() {
  if ! command -v apt-get >/dev/null; then
    echo "missing: install what Debian has in: $*; and start again" >&2
    exit 1
  fi
  printf '\n== installing %s\n' "$*"
  local root=${SUDO:-$([ "$(id -u)" = 0 ] || echo sudo)}
  $root apt-get update -qq
  # A policy that starts no service: nothing of it is needed but the program.
  $root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@"
}

# need PROGRAM PACKAGE...: the packages, if the program is missing.
need() {
  command -v "$1" >/dev/null || install "${@:2}"
}

# venv FOLDER PINS: a Python environment with what is pinned there.
venv() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install python3 python3-venv
  # The copy of the pins is put there last: an installation that was broken off is done again.
  if ! cmp -s "$2" "$1/installed.txt"; then
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    cp "$2" "$1/installed.txt"
  fi
}
