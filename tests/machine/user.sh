# begins: script
# An ordinary user's plugd: in a subtree that is given to him it limits like root's, elsewhere it says that it cannot.
. "$MACHINE/lib.sh"
crowd
echo 'worker:x:1500:1500::/home/worker:/bin/sh' >>/etc/passwd
echo 'worker:x:1500:' >>/etc/group
mkdir -p /home/worker/services.d /run/user/1500
chown -R worker:worker /home/worker /run/user/1500
services=/home/worker/services.d
as="setpriv --reuid 1500 --regid 1500 --clear-groups env HOME=/home/worker USER=worker XDG_RUNTIME_DIR=/run/user/1500"
as() { $as "$@"; }
start() { # start GROUP
  own=/sys/fs/cgroup/$1
  sh -c "echo 0 >$own/cgroup.procs; cd /home/worker; exec $as plugd run $services" >>/root/plugd.log 2>&1 &
  keeper=$!
  soon "plugd runs in $own" reads _controller "^ready: true"
  keeper=$(sed -n 's/.*keeperPid: \([0-9]*\),.*/\1/p' $services/_controller.status)
  groups=$(echo "$own"/plugd-*)
}
put() { as sh -c "cat >$services/$1.yaml" && soon "$1 is told of" test -e $services/"$1".status; }

echo "-- a group that is his"
mkdir /sys/fs/cgroup/his
chown worker /sys/fs/cgroup/his /sys/fs/cgroup/his/cgroup.procs /sys/fs/cgroup/his/cgroup.subtree_control
start his
put calm <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}, requests: {cpu: 250m, memory: 16Mi}}
END
soon "calm runs" reads calm running
is "whose it is" worker "$(stat -c %U /proc/"$(pid calm)")"
sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/calm.status
yes "nothing is missed" no reads calm LimitsNotApplied
yes "killScope" reads calm "killScope: cgroup"
reads_file calm cpu.max "50000 100000"
reads_file calm memory.max 67108864
reads_file calm memory.low 16777216
reads_file calm memory.oom.group 1
reads_file calm pids.max 16
is "keeper and controller are in the leaf" "$keeper $(controller)" "$(echo $(cat $groups/plugd/cgroup.procs))"
put hungry <<'END'
script: |
  sleep 86400 &
  tail /dev/zero || true
  sleep 86400
resources: {limits: {memory: 32Mi}}
restart: Never
END
soon "hungry is OOMKilled" reads hungry OOMKilled
is "nothing of it is left" "" "$(cat "$(group hungry)/cgroup.procs" 2>/dev/null)"
calm=$(pid calm)
put calm <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 96Mi, pids: 8}}
END
soon "other numbers" grep -q 100663296 "$(group calm)/memory.max"
is "the process of calm" "$calm" "$(pid calm)"
put nest <<'END'
script: |
  (setsid env -i setsid sleep 4711 &) &
  exec sleep 4711
stop: {gracePeriod: 1s}
END
soon "two processes" test "$(sleep 2; pgrep -fc 'sleep 4711')" = 2
as rm $services/nest.yaml
soon "both go" no pgrep -f 'sleep 4711'
as rm $services/calm.yaml $services/hungry.yaml
soon "calm goes" no test -e "$(group calm)"
soon "hungry goes" no test -e "$(group hungry)"
kill $keeper
soon "plugd ends" no lives $keeper
is "groups that are left" "" "$(find $own -mindepth 1 -type d)"
is "controllers that are left on" "" "$(cat $own/cgroup.subtree_control)"

echo "-- a group that is not his"
mkdir /sys/fs/cgroup/theirs
rm -f $services/*.status
start theirs
put calm <<'END'
command: sleep 86400
resources: {limits: {memory: 64Mi}}
END
soon "calm runs" reads calm running
sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/calm.status
yes "that is said" reads calm "LimitsNotApplied.*limits.memory 64Mi is not applied.*no cgroup can be made here: Permission denied"
yes "killScope" reads calm "killScope: session"
as plugd --dir $services doctor | grep -A2 -E 'resources|cgroup'
as rm $services/calm.yaml
kill $keeper
soon "plugd ends" no lives $keeper
yes "nobody panicked" no grep panicked /root/plugd.log
grep -E "WARN|ERROR" /root/plugd.log
verdict
