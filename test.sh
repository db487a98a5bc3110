#!/usr/bin/env bash
# Runs every check of the project: installs the real services that the tests use, then formatting,
# lints, all tests, the docs, and the licences and bans where cargo-deny is at hand.
#
#   ./test.sh            everything, as CI does
#   PLUGD_SOAK=1 …       every sweep a hundred times as large, for hours; any value means the same
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

step "real services that the tests run: postgresql, redis, nginx; strace, tmux, cc"
missing=()
need() { # need FILE-OR-COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || compgen -G "$1" >/dev/null || missing+=("$2")
}
need '/usr/lib/postgresql/*/bin/postgres' postgresql
need redis-server redis-server
need nginx nginx
need strace strace
need cc gcc
need curl curl
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # The packages would start their services; the tests start their own.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    rm -f /usr/sbin/policy-rc.d
  else
    echo "these are missing and only root can install them: ${missing[*]}" >&2
    exit 1
  fi
fi

step "formatting"
cargo fmt --all --check

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "tests"
cargo test --locked --no-fail-fast

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "licences, bans, sources"
if command -v cargo-deny >/dev/null; then
  cargo deny --offline --locked check bans licenses sources
else
  echo "cargo-deny is not installed: skipped (cargo install cargo-deny)"
fi

step "all checks passed"
