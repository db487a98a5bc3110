# begins: script
# What services do with the groups that they are in, and what others do to them.
. "$MACHINE/lib.sh"
crowd
begin node

echo "-- less memory than is in use"
cat >$services/big.yaml <<'END'
command: [python3, -c, "x = bytearray(60 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nopen('/root/big', 'w')\nimport time\ntime.sleep(86400)"]
resources: {limits: {memory: 100Mi}}
restart: Never
END
soon "big is big" test -e /root/big
big=$(pid big)
sed -i 's/100Mi/32Mi/' $services/big.yaml
soon "the edit" reads big "generation: 2"
sleep 2
yes "it lives: an edit does not kill" lives "$big"
yes "and the limit that cannot be is told of" reads big LimitsNotApplied
grep '^# why' $services/big.status
rm $services/big.yaml

echo "-- replicas"
printf '%s\n' 'command: sleep 86400' 'replicas: 3' 'resources: {limits: {pids: 8}}' >$services/many.yaml
soon "three groups" sh -c "test \$(ls -d $groups/many.* | wc -l) = 3"
is "their limits" "8 8 8" "$(echo $(cat $groups/many.*/pids.max))"
plugd --dir $services scale many=1
soon "one group" sh -c "test \$(ls -d $groups/many.* | wc -l) = 1"
rm $services/many.yaml

echo "-- frozen"
cat >$services/ice.yaml <<'END'
script: |
  trap 'exit 0' TERM
  while :; do sleep 0.2; done
stop: {gracePeriod: 2s}
END
soon "ice runs" reads ice running
echo 1 >"$(group ice)/cgroup.freeze"
at=$(now)
plugd --dir $services stop ice
is "it is stopped" 0 $?
echo "   $(($(now) - at))0 ms; $(head -n 1 $services/ice.status)"
plugd --dir $services start ice
soon "it runs again" reads ice running
sleep 1
is "and is not frozen" 0 "$(cat "$(group ice)/cgroup.freeze")"
rm $services/ice.yaml

# A container manager moves into a group within its own, and shares out the controllers. Its next life has a new one.
nest() {
  rm -f /root/nested
  cat >$services/nest.yaml <<END
script: |
  own=/sys/fs/cgroup\$(sed 's/^0:://' /proc/self/cgroup)
  mkdir \$own/leaf
  echo 0 >\$own/leaf/cgroup.procs
  $1
  echo begun >>/root/nested
  sleep 1
  exit 1
restart: {backoff: {initial: 100ms, max: 100ms}}
$2
END
  soon "it has begun three times" sh -c "test \$(wc -l </root/nested) -ge 3"
  sed -n 's/^lastExit: //p' $services/nest.status
  rm $services/nest.yaml
  soon "it goes" no test -e "$(group nest)"
}
echo "-- one that shares its group out, as container managers do"
nest 'echo +pids >$own/cgroup.subtree_control' 'resources: {limits: {pids: 64}}'

echo "-- the same without limits"
nest :

kill $keeper && wait $keeper
echo "-- and where memory is not given"
echo -memory >/sys/fs/cgroup/cgroup.subtree_control
begin other
printf '%s\n' 'command: sleep 86400' 'resources: {limits: {pids: 8}}' >$services/calm.yaml
soon "calm runs" reads calm running
nest 'echo +pids >$own/cgroup.subtree_control'
rm $services/*.yaml
kill $keeper && wait $keeper

echo "-- no limits at all"
begin bare
nest :
kill $keeper && wait $keeper
is "groups that are left" "" "$(find /sys/fs/cgroup -name 'plugd-*')"
yes "nobody panicked" no grep panicked /root/plugd.log
verdict
