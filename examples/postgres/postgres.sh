#!/bin/sh
# Starts PostgreSQL in the foreground with a cluster of its own in $PGDATA.
set -eu
: "${PGDATA:=/var/lib/postgresql/plugd}"
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
PATH="${bin:+$bin:}$PATH"
[ -s "$PGDATA/PG_VERSION" ] || initdb --pgdata "$PGDATA" --auth trust --no-sync >/dev/null
exec postgres -D "$PGDATA" -p "${PORT:-5432}" -c unix_socket_directories= -c listen_addresses=127.0.0.1
