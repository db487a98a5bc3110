# begins: script
# The groups of cgroup v2 and their limits when controllers die and keepers are killed or replaced.
. "$MACHINE/lib.sh"
crowd
begin node
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 96Mi, pids: 16}}
END
echo 'command: sleep 86400' >$services/free.yaml
soon "calm runs" reads calm running
soon "free runs" reads free running
calm=$(pid calm) free=$(pid free) first=$(controller)

echo "-- a controller that is killed"
kill -9 $first
soon "another one" no reads _controller "{pid: $first,"
soon "it answers" plugd --dir $services get calm
is "the process of calm" "$calm" "$(pid calm)"
is "the process of free" "$free" "$(pid free)"
is "the leaf" "$keeper $(controller)" "$(echo $(cat $groups/plugd/cgroup.procs))"
cat >$services/hungry.yaml <<'END'
command: tail /dev/zero
resources: {limits: {memory: 32Mi}}
restart: Never
END
soon "hungry is OOMKilled under it" reads hungry OOMKilled
rm $services/hungry.yaml

echo "-- killed while a service runs out of memory"
cat >$services/late.yaml <<'END'
script: |
  sleep 3
  exec tail /dev/zero
resources: {limits: {memory: 32Mi}}
restart: Never
END
soon "late runs" reads late running
late=$(pid late) second=$(controller)
kill -STOP $second
soon "late ends meanwhile" no grep -q . $groups/late.0/cgroup.procs
kill -9 $second
soon "the next controller tells why" reads late OOMKilled
rm $services/late.yaml

echo "-- an upgrade"
third=$(controller)
kill -USR2 $keeper
soon "another controller" no reads _controller "{pid: $third,"
soon "it answers" plugd --dir $services get calm
is "the process of calm" "$calm" "$(pid calm)"
is "memory.max of calm" 100663296 "$(cat "$(group calm)/memory.max")"
is "the leaf" "$keeper $(controller)" "$(echo $(cat $groups/plugd/cgroup.procs))"

echo "-- a keeper that is killed"
kill -9 $keeper
soon "the controller goes with it" no pgrep -x plugd
left=$groups
begin another
soon "calm runs" no reads calm "^pid: $calm"
soon "calm runs" reads calm running
yes "the one before is gone" no lives $calm
yes "free, too" no lives $free
reads_file calm memory.max 100663296
is "groups of the run before" "" "$(ls -d $left 2>/dev/null)"

echo "-- the end"
kill $keeper
wait $keeper
is "the exit code of plugd" 0 $?
yes "the group can be removed" rmdir $own
yes "nobody panicked" no grep panicked /root/plugd.log
grep -E "WARN|ERROR" /root/plugd.log | grep -v RunsAsRoot
verdict
