# begins: script
# Where cgroup v2 gives less than all: what is limited all the same, and what is said of the rest.
. "$MACHINE/lib.sh"
crowd
limited='resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}'
end() { # the node ends, and its services go
  rm -f $services/*.yaml
  kill $keeper
  wait $keeper
  is "exit code" 0 $?
  is "groups that are left" "" "$(find /sys/fs/cgroup -name 'plugd-*')"
}
put() { printf '%s\n' "command: sleep 86400" "$limited" >$services/"$1".yaml && soon "$1 runs" reads "$1" running; }
why() { sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/"$1".status; }

echo "-- somebody else is in plugd's group"
mkdir /sys/fs/cgroup/shared
sh -c 'echo 0 >/sys/fs/cgroup/shared/cgroup.procs; exec sleep 4000' &
stranger=$!
begin shared
put calm
why calm
yes "he is named" reads calm "LimitsNotApplied.*limits.cpu 500m, limits.memory 64Mi, limits.pids 16.*pid $stranger (sleep)"
yes "the scope of a stop is the group all the same" reads calm "killScope: cgroup"
plugd --dir $services doctor 2>&1 | grep -A2 -i 'resources'
kill $stranger && wait $stranger
put next
yes "when he has gone the next one is limited" no reads next LimitsNotApplied
reads_file next memory.max 67108864
cp $services/calm.yaml /root && sed 's/64Mi/65Mi/' /root/calm.yaml >$services/calm.yaml
soon "and what ran before by an edit" no reads calm LimitsNotApplied
reads_file calm memory.max 68157440
end

echo "-- the cpu controller is not given"
echo -cpu >/sys/fs/cgroup/cgroup.subtree_control
begin less
put calm
why calm
yes "that is said of cpu alone" reads calm 'LimitsNotApplied, message: "limits.cpu 500m is not applied'
reads_file calm memory.max 67108864
reads_file calm pids.max 16
end
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control

echo "-- the first group of the machine"
begin .
put calm
yes "nothing is missed" no reads calm LimitsNotApplied
reads_file calm memory.max 67108864
end

echo "-- one that is read only"
mkdir -p /sys/fs/cgroup/sealed
sh -c "echo 0 >/sys/fs/cgroup/sealed/cgroup.procs; exec unshare -m sh -c 'mount -o remount,bind,ro /sys/fs/cgroup; exec plugd run $services'" >>/root/plugd.log 2>&1 &
keeper=$!
soon "plugd runs" reads _controller "keeperPid: $keeper,"
put calm
why calm
yes "it runs without, and that is said" reads calm "LimitsNotApplied.*no cgroup can be made here: Read-only file system"
yes "the scope of its stop is the session" reads calm "killScope: session"
end

echo "-- no cgroups at all"
unshare -m sh -c "umount /sys/fs/cgroup; exec plugd run $services" >>/root/plugd.log 2>&1 &
keeper=$!
soon "plugd runs" reads _controller "keeperPid: $keeper,"
put calm
why calm
yes "it runs without, and that is said" reads calm "LimitsNotApplied.*no cgroups are mounted here"
end

yes "nobody panicked" no grep panicked /root/plugd.log
grep -E "WARN|ERROR" /root/plugd.log | grep -v RunsAsRoot
verdict
