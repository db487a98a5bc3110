# The first process of the machine, in its files: mounts what a machine has and becomes what the scenario wants to
# begin with. `# begins: script` (the scenario is a child of this one, there is no service manager), `# begins:
# systemd` (it is a unit of systemd's), `# begins: itself` (it is the first process).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
word() { sed "s/.*machine\.$1=\([^ ]*\).*/\1/" /proc/cmdline; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm && mount -t devpts pts /dev/pts && mount -t tmpfs shm /dev/shm
# Of what runs on the host nothing is to be seen, nor that it may be a container.
mount -t tmpfs -o mode=0755 run /run
rm -rf /.dockerenv /var/lib/plugd /var/log/plugd /var/log/journal
echo machine >/proc/sys/kernel/hostname
ip link set lo up
here=$(word here) scenario=$(word scenario)
cp "$(word plugd)" /usr/local/bin/plugd
export MACHINE="$here" SCENARIO="$scenario"
case $(sed -n 's/^# begins: //p' "$scenario") in
itself)
  exec sh "$scenario" >/dev/ttyS1 2>&1
  ;;
systemd)
  umount /dev/pts /dev/shm /sys/fs/cgroup /sys /run
  printf '%s\n' '[Unit]' 'Requires=basic.target' 'After=basic.target' 'Wants=scenario.service' 'AllowIsolate=yes' \
    >/etc/systemd/system/machine.target
  printf '%s\n' '[Service]' 'StandardOutput=file:/dev/ttyS1' 'StandardError=inherit' 'TimeoutStopSec=5' \
    "Environment=MACHINE=$here SCENARIO=$scenario HOME=/root PATH=$PATH" \
    "ExecStart=/bin/sh $scenario" "ExecStopPost=/bin/sh -c 'echo exit code \$\$EXIT_STATUS; [ \$\$EXIT_CODE = killed ] || systemctl --force --force reboot'" >/etc/systemd/system/scenario.service
  # What a machine without disk, network and clock has no use for.
  for unit in systemd-udevd systemd-udev-trigger systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-timesyncd systemd-pstore systemd-random-seed systemd-modules-load systemd-sysctl kmod-static-nodes \
    systemd-binfmt systemd-hwdb-update systemd-firstboot systemd-machine-id-commit dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount e2scrub_reap systemd-remount-fs \
    systemd-update-utmp systemd-networkd systemd-tmpfiles-setup systemd-tmpfiles-setup-dev; do
    case $unit in *.*) ;; *) unit=$unit.service ;; esac
    ln -sf /dev/null /etc/systemd/system/$unit
  done
  rm -rf /etc/systemd/system/timers.target.wants
  [ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
  exec env -i PATH=$PATH /lib/systemd/systemd
  ;;
script)
  sh "$scenario" >/dev/ttyS1 2>&1
  echo "exit code $?" >/dev/ttyS1
  sleep 0.2 # its last line is on its way
  echo b >/proc/sysrq-trigger
  ;;
esac
