#!/bin/busybox sh
# The first process of the machine, in its initramfs: finds the files of the host, lays memory above them, and
# becomes inside.sh there.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
cd /modules
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci netfs fscache \
  9pnet 9pnet_virtio 9p overlay inet_diag tcp_diag; do
  [ -e $module.ko ] && /bin/busybox insmod $module.ko
done
cd /
set -e
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host
/bin/busybox mount -t tmpfs -o mode=0755 memory /memory
/bin/busybox mkdir /memory/above /memory/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/above,workdir=/memory/work root /root
here=$(/bin/busybox sed 's/.*machine.here=\([^ ]*\).*/\1/' /proc/cmdline)
/bin/busybox umount /proc /sys
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /bin/sh "$here/inside.sh"
