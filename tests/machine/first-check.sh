# What first.sh's machine looks like from inside.
exec >/dev/ttyS1 2>&1
. "$MACHINE/lib.sh"
soon "all is ready" reads _controller "^ready: true"
is "the first process" plugd "$(cat /proc/1/comm)"
yes "it is the keeper" reads _controller "keeperPid: 1,"
soon "calm runs" reads calm running
soon "front runs" reads front running
groups=$(echo /sys/fs/cgroup/plugd-*)
sed -n 's/.*LimitsNotApplied, message: "\(.*\)", since.*/\1/p' $services/calm.status
reads_file calm memory.max 67108864
reads_file calm cpu.max "50000 100000"
plugd --dir $services doctor | grep -A2 'PID 1'

echo "-- orphans"
for _ in $(seq 200); do (sh -c 'sleep 0.1 &' &); done
sleep 3
soon "no zombies" sh -c '! grep -l "^State:.Z" /proc/[0-9]*/status'

echo "-- signals that the kernel would not give to a first process without a handler"
calm=$(pid calm) first=$(controller)
kill -HUP 1 && kill -USR1 1 && kill -ABRT 1 && kill -PIPE 1 && kill -ALRM 1 && kill -KILL 1
sleep 1
yes "plugd answers" plugd --dir $services get calm
is "the process of calm" "$calm" "$(pid calm)"
kill -9 "$first"
soon "another controller" no reads _controller "{pid: $first,"
soon "plugd answers" plugd --dir $services get calm
is "the process of calm" "$calm" "$(pid calm)"
kill -USR2 1
sleep 3
soon "plugd answers after an upgrade" plugd --dir $services get calm
is "the process of calm" "$calm" "$(pid calm)"
is "the first process is" /usr/local/bin/plugd "$(readlink /proc/1/exe)"
(verdict)
echo "exit code $?"
sleep 0.5
echo "-- the end: TERM"
kill -TERM 1
sleep 100
