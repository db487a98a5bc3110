# begins: script
# Limits by cgroup v2: what stands in the kernel's files, what happens at each limit, and that nothing is left.
. "$MACHINE/lib.sh"
crowd
begin node

echo "-- numbers"
echo 'command: sleep 86400' >$services/free.yaml
soon "free runs" reads free "running"
is "nothing is switched on without need" "" "$(cat $own/cgroup.subtree_control)"
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}, requests: {cpu: 250m, memory: 16Mi}}
END
soon "calm runs" reads calm "running"
is "controllers of plugd's group" "cpu memory pids" "$(cat $own/cgroup.subtree_control)"
is "nobody is in it" "" "$(cat $own/cgroup.procs)"
is "keeper and controller are in the leaf" "$keeper $(controller)" "$(echo $(cat $own/plugd-*/plugd/cgroup.procs))"
reads_file calm cpu.max "50000 100000"
reads_file calm cpu.weight 25
reads_file calm memory.max 67108864
reads_file calm memory.high max
reads_file calm memory.low 16777216
reads_file calm memory.oom.group 1
reads_file calm pids.max 16
is "memory.low of all" max "$(cat $own/plugd-*/memory.low)"
reads_file free memory.max max
reads_file calm cgroup.procs "$(pid calm)"
yes "no limit is missed" no reads calm LimitsNotApplied
yes "the scope of its stop is the cgroup" reads calm "killScope: cgroup"
calm=$(pid calm) free=$(pid free)

echo "-- other numbers while it runs"
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 1500m, memory: 96Mi, pids: 24}}
END
soon "the new numbers" grep -q 100663296 "$(group calm)/memory.max"
soon "its generation" reads calm "generation: 2"
reads_file calm cpu.max "150000 100000"
reads_file calm cpu.weight 100
reads_file calm memory.low 0
reads_file calm pids.max 24
is "its process" "$calm" "$(pid calm)"
is "the processes of free" "$free" "$(pid free)"

echo "-- memory"
cat >$services/hungry.yaml <<'END'
script: |
  sleep 86400 &
  tail /dev/zero || true
  echo survived >/root/survived
  sleep 86400
resources: {limits: {memory: 32Mi}}
restart: Never
END
soon "hungry is OOMKilled" reads hungry OOMKilled
head -n 3 $services/hungry.status
yes "with its limit" reads hungry "its limit is 32Mi"
yes "the whole of it" no test -e /root/survived
is "nothing of it is left" "" "$(cat "$(group hungry)/cgroup.procs" 2>/dev/null)"
plugd --dir $services events hungry | grep memory
rm $services/hungry.yaml
soon "its group goes" no test -e "$(group hungry)"
cat >$services/single.yaml <<'END'
script: |
  tail /dev/zero || true
  echo survived >/root/survived
  exec sleep 86400
resources: {limits: {memory: 32Mi}, singleProcessOOMKill: true}
END
soon "only the largest of single is killed" test -e /root/survived
reads_file single memory.oom.group 0
is "it goes on without a restart" "restarts: 0" "$(grep ^restarts $services/single.status)"
rm $services/single.yaml

echo "-- processes"
cat >/root/bomb.py <<'END'
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.5)
END
cat >$services/bomb.yaml <<'END'
command: python3 /root/bomb.py
resources: {limits: {pids: 40}}
stop: {gracePeriod: 1s}
END
soon "the bomb meets its limit" grep -q "max [1-9]" "$(group bomb)/pids.events"
reads_file bomb pids.max 40
soon "it is full" grep -q '^40$' "$(group bomb)/pids.current"
yes "plugd answers" plugd --dir $services get
yes "calm lives" lives "$calm"
rm $services/bomb.yaml
soon "nothing is left of it" no test -e "$(group bomb)"
is "processes of it" 0 "$(pgrep -fc bomb.py)"

echo "-- processor"
cat >$services/busy.yaml <<'END'
command: [sh, -c, "while :; do :; done"]
resources: {limits: {cpu: 100m}}
END
soon "busy runs" reads busy running
used() { sed -n 's/usage_usec //p' "$(group busy)/cpu.stat"; }
before=$(used) at=$(now)
sleep 4
used=$((($(used) - before) / 10000)) took=$(($(now) - at))
yes "busy has at most a tenth of a processor ($used of $took)" [ $((used * 8)) -le $took ]
rm $services/busy.yaml
soon "busy goes" no test -e "$(group busy)"

echo "-- what leaves everything behind, and what makes groups of its own"
cat >$services/nest.yaml <<'END'
script: |
  own=/sys/fs/cgroup$(sed 's/^0:://' /proc/self/cgroup)
  mkdir -p $own/inner/innermost
  setsid sh -c 'echo 0 >'$own'/inner/innermost/cgroup.procs; exec env -i setsid sleep 4711' &
  (setsid env -i setsid sleep 4711 &) &
  exec sleep 4711
resources: {limits: {memory: 64Mi}}
stop: {gracePeriod: 1s}
END
soon "three processes" test "$(sleep 2; pgrep -fc 'sleep 4711')" = 3
rm $services/nest.yaml
soon "the group goes" no test -e "$(group nest)"
is "its processes" 0 "$(pgrep -fc 'sleep 4711')"

echo "-- the end"
rm $services/free.yaml
soon "free is gone" no test -e "$(group free)"
kill $keeper
wait $keeper
is "the exit code of plugd" 0 $?
is "groups that are left" "" "$(ls -d $own/plugd-* 2>/dev/null)"
is "controllers that are left on" "" "$(cat $own/cgroup.subtree_control)"
yes "the group can be removed" rmdir $own
is "processes" 0 "$(pgrep -c 'plugd|sleep')"
yes "nobody panicked" no grep panicked /root/plugd.log
verdict
