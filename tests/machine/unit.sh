# begins: systemd
# The unit of examples/, run by the systemd that it is made for.
. "$MACHINE/lib.sh"
. "$MACHINE/managed.sh"

echo "-- a directory that is not there"
rmdir $services
systemctl start plugd
is "the start fails" 1 $?
sleep 3
is "its exit code" 78 "$(of ExecMainStatus)"
yes "the journal has the remedy" sh -c 'journalctl -b -o cat -u plugd | grep -q "mkdir -p /etc/plugd/services.d"'
is "how often it was tried again: what must be mended first is not" 0 "$(of NRestarts)"
mkdir $services
systemctl stop plugd
systemctl reset-failed plugd

echo "-- start"
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}
END
cat >$services/late.yaml <<'END'
script: |
  trap 'echo bye; exit 0' TERM
  sleep 3
  touch /run/late
  while :; do sleep 0.2; done
readinessProbe: {exec: {command: [test, -e, /run/late]}}
dependsOn: [calm]
END
at=$(now)
systemctl start plugd
is "the start succeeds" 0 $?
yes "when late is ready ($(($(now) - at))0 ms)" reads late healthy
state "active running success"
is "its status" "2 of 2 services are up" "$(of StatusText)"
yes "systemctl status shows it" sh -c "systemctl status --no-pager plugd | grep -q 'Status: \"2 of 2 services are up\"'"
keeper=$(main)
is "its main process" "plugd" "$(cat /proc/"$keeper"/comm)"
yes "that is the keeper" reads _controller "keeperPid: $keeper,"
echo '{command: "false", restart: {backoff: {initial: 60s, max: 60s}}}' >$services/bad.yaml
soon "a service that fails is told of" sh -c "systemctl show -P StatusText plugd | grep -q '2 of 3 services are up; failed: bad (.*BackOff)'"
rm $services/bad.yaml
soon "and that it is gone" sh -c "systemctl show -P StatusText plugd | grep -q '^2 of 2 services are up$'"

echo "-- cgroups"
groups
yes "nothing is missed" no reads calm LimitsNotApplied
reads_file calm cpu.max "50000 100000"
reads_file calm memory.max 67108864
reads_file calm memory.oom.group 1
reads_file calm pids.max 16
is "keeper and controller are in the leaf" "$keeper $(controller)" "$(echo $(cat "$groups"/plugd/cgroup.procs))"
is "what systemd knows of calm" plugd.service "$(ps -o unit= -p "$(pid calm)")"
cat >$services/hungry.yaml <<'END'
command: tail /dev/zero
resources: {limits: {memory: 32Mi}}
restart: Never
END
soon "hungry is OOMKilled" reads hungry OOMKilled
sleep 2
state "active running success"
rm $services/hungry.yaml

echo "-- a controller that is killed"
calm=$(pid calm) late=$(pid late) first=$(controller)
kill -9 "$first"
soon "another one" no reads _controller "{pid: $first,"
soon "it answers" plugd --dir $services get calm
sleep 2
is "the processes" "$calm $late" "$(pid calm) $(pid late)"
state "active running success"
is "its main process" "$keeper" "$(main)"
is "its status" "2 of 2 services are up" "$(of StatusText)"
is "restarts" 0 "$(of NRestarts)"

echo "-- reload"
systemctl reload plugd
is "its exit code" 0 $?
sleep 2
state "active running success"
is "the processes" "$calm $late" "$(pid calm) $(pid late)"

echo "-- an upgrade"
cp /usr/local/bin/plugd /usr/local/bin/plugd.new
mv /usr/local/bin/plugd.new /usr/local/bin/plugd
second=$(controller)
systemctl kill -s USR2 --kill-whom=main plugd
soon "another controller" no reads _controller "{pid: $second,"
soon "it answers" plugd --dir $services get calm
sleep 2
is "the processes" "$calm $late" "$(pid calm) $(pid late)"
state "active running success"
is "its main process" "$keeper" "$(main)"
is "what the keeper runs" /usr/local/bin/plugd "$(readlink /proc/"$keeper"/exe)"
is "its status" "2 of 2 services are up" "$(of StatusText)"

echo "-- restart"
systemctl restart plugd
is "its exit code" 0 $?
state "active running success"
yes "the processes are others" [ "$calm $late" != "$(pid calm) $(pid late)" ]
yes "those before are gone" no lives "$calm"
groups
reads_file calm memory.max 67108864

echo "-- a keeper that is killed"
calm=$(pid calm) late=$(pid late) keeper=$(main)
kill -9 "$keeper"
soon "systemd starts the next one" sh -c "test \$(systemctl show -P MainPID plugd) -gt 0 -a \$(systemctl show -P MainPID plugd) != $keeper && systemctl -q is-active plugd"
state "active running success"
is "restarts" 1 "$(of NRestarts)"
yes "calm is another process" [ "$calm" != "$(pid calm)" ]
yes "the one before is gone" no lives "$calm"
yes "late's, too" no lives "$late"
groups
yes "nothing is missed" no reads calm LimitsNotApplied
reads_file calm memory.max 67108864
is "its status" "2 of 2 services are up" "$(of StatusText)"

echo "-- everybody is sent a TERM"
systemctl kill plugd
soon "the unit ends" sh -c "systemctl show -P ActiveState plugd | grep -q inactive"
state "inactive dead success"
yes "its group is gone" no test -e $own
is "whom systemd had to kill" "" "$(killed)"
is "what is left" "" "$(pgrep -a 'plugd|sleep')"

echo "-- stop"
cat >$services/stubborn.yaml <<'END'
script: |
  trap '' TERM
  echo begun
  while :; do sleep 0.2; done
stop: {gracePeriod: 2s}
dependsOn: [late]
END
systemctl start plugd
calm=$(pid calm)
at=$(now)
systemctl stop plugd
yes "within its time ($(($(now) - at))0 ms)" [ $(($(now) - at)) -lt 1500 ]
state "inactive dead success"
is "its exit code" 0 "$(of ExecMainStatus)"
yes "calm is gone" no lives "$calm"
yes "its group is gone" no test -e $own
is "whom systemd had to kill" "" "$(killed)"
is "what is left" "" "$(pgrep -a 'plugd|sleep')"
yes "the last word of calm" reads calm "^# calm  stopped (ControllerStopped)"

echo "-- as plugd doctor advises: a scope"
rm $services/stubborn.yaml $services/late.yaml
systemd-run --scope -p Delegate=yes --unit by-hand plugd run $services >/root/plugd.log 2>&1 &
soon "calm runs" reads calm running
groups=$(echo /sys/fs/cgroup/system.slice/by-hand.scope/plugd-*)
yes "nothing is missed" no reads calm LimitsNotApplied
reads_file calm memory.max 67108864
systemctl stop by-hand.scope
soon "plugd ends" no pgrep -x plugd
is "what is left" "" "$(pgrep -a 'plugd|sleep')"
verdict
