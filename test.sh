#!/usr/bin/env bash
# Runs every check of the project: installs what the tests run and is not there (postgresql, redis, nginx,
# python3 and the like; nothing is fetched where all of it is), then formatting, lints, all tests, the docs,
# and the licences and bans where cargo-deny is at hand.
#
#   ./test.sh            everything, as CI does
#   PLUGD_SOAK=1 …       every sweep a hundred times as large, for hours; any value means the same
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

step "what the tests run: postgresql, redis, nginx, and the tools of a Linux machine"
missing=()
need() { # need FILE-OR-COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || compgen -G "$1" >/dev/null || missing+=("$2")
}
need '/usr/lib/postgresql/*/bin/postgres' postgresql # psql as well
need redis-server redis-server
need redis-cli redis-tools
need nginx nginx
need cc gcc
need /usr/include/stdio.h libc6-dev # gcc only recommends it
need strace strace
need curl curl
need python3 python3   # servers of every kind
need script bsdutils   # a terminal
need ip iproute2       # loopback in a network of its own
need mkfs.ext4 e2fsprogs # chattr as well
need mount mount       # umount as well
need unshare util-linux # setpriv, prlimit, fsfreeze and flock as well
if [ -n "${PLUGD_SOAK:-}" ]; then
  need qemu-system-x86_64 qemu-system-x86 # machines of their own
  need busybox busybox-static
fi
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # The packages would start their services; the tests start their own. A container has this already.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy='' || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy; }
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    rm -f $policy
  else
    echo "these are missing and only root can install them: ${missing[*]}" >&2
    exit 1
  fi
fi
# Images of Rust come without them.
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

step "formatting"
cargo fmt --all --check

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "tests"
cargo test --locked --no-fail-fast

if [ -n "${PLUGD_SOAK:-}" ]; then
  step "in machines of their own: cgroup v2, systemd, the first process"
  cargo build --locked --release
  tests/machine/run.sh target/release/plugd target/machine
fi

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "licences, bans, sources"
if command -v cargo-deny >/dev/null; then
  cargo deny --offline --locked check bans licenses sources
else
  echo "cargo-deny is not installed: skipped (cargo install cargo-deny)"
fi

step "all checks passed"
