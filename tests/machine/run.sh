#!/usr/bin/env bash
# Plays scenarios in virtual machines: what only a machine of one's own shows, which is cgroup v2 with its
# controllers, a real systemd, and being the first process. Each scenario is a shell script that runs as root in
# a machine with this one's own files (read only, what is written there goes to memory) and Debian's kernel.
#
#   tests/machine/run.sh PLUGD WORK [SCENARIO.sh…]    all scenarios beside this file where none is named
#
# PLUGD is the program, WORK a folder for what is fetched and made (used again by the next run). The processor is
# emulated, so that it runs anywhere; it takes qemu-system-x86_64 and busybox (packages qemu-system-x86 and
# busybox-static). The exit code is the number of scenarios that failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
plugd=$(realpath "$1") work=$(mkdir -p "$2" && realpath "$2")
shift 2
patience=${MACHINE_PATIENCE:-300} # seconds for a scenario, of which the boot takes 10 to 20

for tool in qemu-system-x86_64 busybox apt-get dpkg-deb; do
  command -v $tool >/dev/null || { echo "$tool is missing (packages qemu-system-x86, busybox-static)" >&2 && exit 1; }
done

kernel() { # fetches the kernel once: its image and the few modules without which it finds no files
  [ -e "$work/vmlinuz" ] && return
  local version
  version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
  (cd "$work" && apt-get download -qq "$version" 2>/dev/null)
  mkdir -p "$work/kernel"
  dpkg-deb --fsys-tarfile "$work/$version"_*.deb | tar x -C "$work/kernel" --wildcards './boot/vmlinuz*' '*/kernel/drivers/virtio/*' \
    '*_diag.ko' '*/kernel/net/9p/*' '*/kernel/fs/9p/*' '*/kernel/fs/netfs/*' '*/kernel/fs/fscache/*' '*/kernel/fs/overlayfs/*'
  rm "$work/$version"_*.deb
  mv "$work"/kernel/boot/vmlinuz* "$work/vmlinuz"
}

first_files() { # the initramfs: busybox, those modules, boot.sh
  rm -rf "$work/first"
  mkdir -p "$work"/first/{bin,modules,proc,sys,dev,host,memory,root}
  cp "$(command -v busybox)" "$work/first/bin/busybox"
  find "$work/kernel" -name '*.ko' -exec cp -t "$work/first/modules" {} +
  install -m 755 "$here/boot.sh" "$work/first/init"
  (cd "$work/first" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/first.cpio"
}

play() { # play SCENARIO.sh: its lines, then its exit code; the machine's console lies in WORK/NAME.console
  local scenario name code
  scenario=$(realpath "$1") name=$(basename "$1" .sh)
  : >"$work/$name.out"
  timeout "$patience" qemu-system-x86_64 -accel "${MACHINE_ACCEL:-tcg}" -cpu max -m 1536 -smp 1 \
    -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$work/vmlinuz" -initrd "$work/first.cpio" \
    -append "console=ttyS0 loglevel=4 panic=-1 mitigations=off random.trust_cpu=on no_timer_check cgroup_no_v1=all \
      systemd.unit=machine.target systemd.show_status=0 machine.here=$here machine.plugd=$plugd machine.scenario=$scenario ${MACHINE_APPEND:-}" \
    -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap" \
    -serial "file:$work/$name.console" -serial "file:$work/$name.out" </dev/null >"$work/$name.qemu" 2>&1 ||
    echo "the machine did not end by itself within $patience s" >>"$work/$name.out"
  sed 's/\r$//; /^exit code /d' "$work/$name.out"
  grep -q '^exit code ' "$work/$name.out" || tail -n 20 "$work/$name.console"
  code=$(sed -n 's/\r$//; s/^exit code \([0-9]*\)$/\1/p' "$work/$name.out" | tail -n 1)
  return "${code:-1}"
}

kernel
first_files
failed=0
[ $# -gt 0 ] || set -- $(grep -l '^# begins: ' "$here"/*.sh)
for scenario; do
  begun=$SECONDS
  printf '\n== %s\n' "$(basename "$scenario" .sh)"
  if play "$scenario"; then verdict=passed; else verdict="FAILED ($?)" failed=$((failed + 1)); fi
  printf '== %s %s, %d s\n' "$(basename "$scenario" .sh)" "$verdict" $((SECONDS - begun))
done
exit $failed
