# begins: systemd
# The unit of examples/ when plugd does not answer any more: its watchdog, and what the keeper does before that.
. "$MACHINE/lib.sh"
. "$MACHINE/managed.sh"
cat >$services/calm.yaml <<'END'
script: |
  trap 'echo bye >>/run/bye; exit 0' TERM
  while :; do sleep 0.2; done
END
mkdir /etc/systemd/system/plugd.service.d
printf '[Service]\nWatchdogSec=%s\n' 10 >/etc/systemd/system/plugd.service.d/soon.conf
systemctl daemon-reload
systemctl start plugd
soon "calm runs" reads calm running
keeper=$(main) controller=$(controller) calm=$(pid calm)

echo "-- it is fed while all is well"
sleep 15
state "active running success"
is "restarts" 0 "$(of NRestarts)"
is "its main process" "$keeper" "$(main)"

echo "-- the keeper alone is stopped"
kill -STOP "$keeper"
soon "it is told to go on" grep -q 'State:.S' /proc/"$keeper"/status
state "active running success"
is "the process of calm" "$calm" "$(pid calm)"

echo "-- keeper and controller are stopped"
at=$(now)
kill -STOP "$keeper" "$controller"
until journalctl -b -u plugd | grep -q 'Watchdog timeout' || [ $(($(now) - at)) -gt 3000 ]; do sleep 0.2; done
yes "the watchdog bites ($(($(now) - at))0 ms)" [ $(($(now) - at)) -lt 1500 ]
until [ "$(of NRestarts)" = 1 ] && systemctl -q is-active plugd; do
  sleep 0.5
  [ $(($(now) - at)) -lt 15000 ] || break
done
echo "   the next one is ready after $(($(now) - at))0 ms"
state "active running success"
is "restarts" 1 "$(of NRestarts)"
yes "calm was told to end" grep -q bye /run/bye
yes "calm of before is gone" no lives "$calm"
soon "calm runs" reads calm running
systemctl stop plugd

echo "-- the controller hangs, with the unit as it is"
rm /etc/systemd/system/plugd.service.d/soon.conf
systemctl daemon-reload
systemctl start plugd
soon "calm runs" reads calm running
keeper=$(main) controller=$(controller) calm=$(pid calm)
kill -STOP "$controller"
at=$(now)
while kill -0 "$controller" 2>/dev/null && [ $(($(now) - at)) -lt 10000 ]; do sleep 0.5; done
echo "   the keeper ends it after $(($(now) - at))0 ms"
soon "another one" no reads _controller "{pid: $controller,"
state "active running success"
is "its main process" "$keeper" "$(main)"
is "the process of calm" "$calm" "$(pid calm)"
is "restarts" 0 "$(of NRestarts)"
systemctl stop plugd
state "inactive dead success"
verdict
