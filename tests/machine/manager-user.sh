# begins: systemd
# The unit of examples/ as one of a user's own systemd, and the scope that `plugd doctor` advises him.
. "$MACHINE/lib.sh"
echo 'worker:x:1500:1500::/home/worker:/bin/sh' >>/etc/passwd
echo 'worker:x:1500:' >>/etc/group
echo 'worker:*:19000:0:99999:7:::' >>/etc/shadow
services=/home/worker/services.d units=/home/worker/.config/systemd/user
mkdir -p $services $units
sed -e "s|/etc/plugd/services.d|$services|" -e 's/multi-user.target/default.target/; /^After=network/d' \
  "$MACHINE/../../examples/systemd/plugd.service" >$units/plugd.service
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}
END
chown -R worker:worker /home/worker
systemctl start user@1500
is "his manager begins" 0 $?
systemctl -q is-active user@1500 || { journalctl -b --no-hostname -u user@1500 -u user-runtime-dir@1500 -u dbus; verdict; }
as() { setpriv --reuid 1500 --regid 1500 --clear-groups env -C /home/worker HOME=/home/worker USER=worker XDG_RUNTIME_DIR=/run/user/1500 "$@"; }
of() { as systemctl --user show -P "$1" plugd; }
state() { is "the unit" "$1" "$(of ActiveState) $(of SubState) $(of Result)"; }
missed() { sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/calm.status; }
top=/sys/fs/cgroup/user.slice/user-1500.slice/user@1500.service
echo "   given to him: $(cat $top/cgroup.controllers)"

echo "-- the unit"
as systemctl --user start plugd
is "its start" 0 $?
state "active running success"
soon "calm runs" reads calm running
is "its status" "1 of 1 service is up" "$(of StatusText)"
missed
yes "nothing is missed" no reads calm LimitsNotApplied
groups=$(echo $top/app.slice/plugd.service/plugd-*)
reads_file calm memory.max 67108864
reads_file calm pids.max 16
reads_file calm cpu.max "50000 100000"
is "whose it is" worker "$(stat -c %U /proc/"$(pid calm)")"
calm=$(pid calm) first=$(controller)
kill -9 "$first"
soon "another controller" no reads _controller "{pid: $first,"
state "active running success"
is "the process of calm" "$calm" "$(pid calm)"
as systemctl --user reload plugd
is "its reload" 0 $?
as systemctl --user stop plugd
state "inactive dead success"
yes "calm is gone" no lives "$calm"
yes "its group is gone" no test -e $top/app.slice/plugd.service

echo "-- the scope"
as systemd-run --user --scope -p Delegate=yes --unit by-hand plugd run $services >/root/plugd.log 2>&1 &
soon "calm runs" reads calm running
missed
yes "nothing is missed" no reads calm LimitsNotApplied
groups=$(echo $top/app.slice/by-hand.scope/plugd-*)
reads_file calm memory.max 67108864
as systemctl --user stop by-hand.scope
soon "plugd ends" no pgrep -x plugd

echo "-- without the scope, from his own shell"
as plugd run $services >>/root/plugd.log 2>&1 &
soon "calm runs" reads calm running
missed
yes "that is said" reads calm LimitsNotApplied
pkill -x -o plugd
soon "plugd ends" no pgrep -x plugd

echo "-- the unit, and the user's manager is stopped with it"
as systemctl --user start plugd
soon "calm runs" reads calm running
systemctl stop user@1500
is "its exit code" 0 $?
is "what is left" "" "$(pgrep -a -x 'plugd|sleep')"
verdict
