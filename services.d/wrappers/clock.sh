#!/bin/sh
# Prints the time every ten seconds. `exec` is not needed: plugd ends the whole process tree.
echo "$PLUGD_SERVICE begins"
while :; do
  date -u +%H:%M:%S
  sleep 10
done
