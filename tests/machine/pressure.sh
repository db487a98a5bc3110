# begins: systemd
# The unit of examples/ with more in it: limits of the unit itself, hardening, another user, a service that never gets
# ready.
. "$MACHINE/lib.sh"
. "$MACHINE/managed.sh"
mkdir /etc/systemd/system/plugd.service.d
with() { # with LINES…: the unit with these, and only these, in addition
  printf '%s\n' '[Service]' "$@" >/etc/systemd/system/plugd.service.d/more.conf
  systemctl daemon-reload
}
put() { printf '%s\n' 'command: sleep 86400' 'resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}' >$services/"$1".yaml; }

echo "-- MemoryMax of the unit, and a service without a limit"
with MemoryMax=80M
echo 'command: sleep 86400' >$services/calm.yaml
systemctl start plugd
soon "calm runs" reads calm running
keeper=$(main) first=$(controller) calm=$(pid calm)
printf '%s\n' 'command: tail /dev/zero' 'restart: Never' >$services/hungry.yaml
soon "hungry is killed" reads hungry "^status: failed"
head -n 3 $services/hungry.status
is "the keeper" "$keeper" "$(main)"
is "the controller" "$first" "$(controller)"
is "the process of calm" "$calm" "$(pid calm)"
state "active running success"
rm $services/hungry.yaml

echo "-- TasksMax of the unit, and a fork bomb without a limit"
with TasksMax=60
systemctl restart plugd
cat >/root/bomb.py <<'END'
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.5)
END
keeper=$(main) first=$(controller) calm=$(pid calm)
echo 'command: python3 /root/bomb.py' >$services/bomb.yaml
soon "the unit is full" grep -q '^60$' $own/pids.current
put late
soon "what does not fit says so" reads late ResourceExhausted
head -n 3 $services/late.status
yes "plugd answers" plugd --dir $services get calm
rm $services/bomb.yaml
soon "the bomb goes" no pgrep -f bomb.py
soon "late runs" reads late running
is "the keeper" "$keeper" "$(main)"
is "the controller" "$first" "$(controller)"
is "the process of calm" "$calm" "$(pid calm)"
state "active running success"
systemctl stop plugd
state "inactive dead success"
rm $services/late.yaml

echo "-- hardened"
with ProtectSystem=full NoNewPrivileges=yes
put calm
rm -f $services/*.status
systemctl start plugd
is "the start" 0 $?
is "its status" "1 of 1 service is up" "$(of StatusText)"
is "memory.max of calm" 67108864 "$(cat $own/plugd-*/calm.0/memory.max)"
yes "its status files lie elsewhere" test -s /var/lib/plugd/services.d-*/status/calm.status
systemctl stop plugd
state "inactive dead success"

echo "-- as another user"
echo 'worker:x:1500:1500::/home/worker:/bin/sh' >>/etc/passwd
echo 'worker:x:1500:' >>/etc/group
mkdir -p /home/worker && chown -R worker:worker /home/worker $services
with User=worker
systemctl start plugd
is "the start" 0 $?
soon "calm runs" reads calm running
sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/calm.status
yes "nothing is missed" no reads calm LimitsNotApplied
groups
reads_file calm memory.max 67108864
is "whose it is" worker "$(stat -c %U /proc/"$(pid calm)")"
grep places $services/_controller.status
systemctl stop plugd
state "inactive dead success"
chown -R root:root $services

echo "-- stopped while it starts"
with
cat >$services/never.yaml <<'END'
command: sleep 86400
readinessProbe: {exec: {command: ["false"]}}
END
systemctl start --no-block plugd
soon "it starts" grep -q starting $services/never.status
is "the unit" activating "$(of ActiveState)"
echo "   $(of StatusText)"
systemctl stop plugd
state "inactive dead success"
is "what is left" "" "$(pgrep -a -x 'plugd|sleep')"

echo "-- a service that never gets ready"
at=$(now)
systemctl start plugd
is "the start" 0 $?
is "its status" "1 of 2 services are up; failed: never (ProbeNotPassed)" "$(of StatusText)"
echo "   $(($(now) - at))0 ms"
state "active running success"
systemctl stop plugd
state "inactive dead success"
verdict
