# begins: script
# Containers with cgroups of their own: plugd as their first process, and under another one.
. "$MACHINE/lib.sh"
crowd
limited='resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}'
put() { printf '%s\n' "command: sleep 86400" "$limited" >$services/"$1".yaml && soon "$1 runs" reads "$1" running; }
why() { sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/"$1".status; }

# contain COMMAND…: as in a container of Docker's with cgroups of its own
mkdir /sys/fs/cgroup/container
contain() {
  unshare -m -p -f --mount-proc sh -c 'echo 0 >/sys/fs/cgroup/container/cgroup.procs
    exec unshare -C sh -c "umount /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup && exec $0 $*"' "$@" >>/root/plugd.log 2>&1 &
  outer=$!
  soon "plugd runs" reads _controller "^ready: true"
  put calm
  why calm
  yes "nothing is missed" no reads calm LimitsNotApplied
  groups=$(echo /sys/fs/cgroup/container/plugd-*)
  reads_file calm memory.max 67108864
  reads_file calm cpu.max "50000 100000"
  rm $services/calm.yaml
  soon "calm goes" no test -e "$(group calm)"
  kill "$(pgrep -P $outer)"
  wait $outer
  is "its exit code" 0 $?
  is "groups that are left" "" "$(find /sys/fs/cgroup -name 'plugd-*')"
  rm $services/_controller.status
}
echo "-- a container of which plugd is the first process"
contain plugd run $services

echo "-- a container with an init of its own"
cat >/root/init.sh <<END
trap 'kill \$node' TERM
plugd run $services &
node=\$!
wait \$node
wait \$node
END
contain sh /root/init.sh

echo "-- the same, and then a node of another directory"
mkdir /root/before
cp /root/calm.yaml /root/before 2>/dev/null || printf '%s\n' "command: sleep 86400" "$limited" >/root/before/calm.yaml
cat >/root/init.sh <<END
plugd run /root/before & before=\$!
until grep -q running /root/before/calm.status; do sleep 0.2; done
kill \$before; wait \$before
trap 'kill \$node' TERM
plugd run $services &
node=\$!
wait \$node
wait \$node
END
contain sh /root/init.sh

yes "nobody panicked" no grep panicked /root/plugd.log
grep -E "WARN|ERROR" /root/plugd.log | grep -v RunsAsRoot
verdict
