# For scenarios in which systemd runs plugd: the unit of examples/.
services=/etc/plugd/services.d own=/sys/fs/cgroup/system.slice/plugd.service
mkdir -p $services
cp "$MACHINE/../../examples/systemd/plugd.service" /etc/systemd/system/
systemctl daemon-reload
of() { systemctl show -P "$1" plugd; } # of PROPERTY
state() { is "the unit" "$1" "$(of ActiveState) $(of SubState) $(of Result)"; }
main() { of MainPID; }
# Whom systemd had to kill at the end that was last: nobody, because the keeper goes last.
killed() {
  journalctl --sync
  journalctl -b -o cat -u plugd | awk '/^(Starting|Stopping) /{said=""} /Killing process/{said=said $0 "\n"} END{printf "%s", said}'
}
groups() { groups=$(echo $own/plugd-*); }
journal() { journalctl -b -o short-monotonic --no-hostname "$@" | grep -v 'RunsAsRoot'; }
