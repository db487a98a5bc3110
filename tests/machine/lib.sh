# What scenarios are written in. One that ends by `verdict` passed if every line of it did.
failed=0

# yes WHAT COMMAND…: holds now.
yes() {
  what=$1 && shift
  if said=$("$@" 2>&1); then echo "ok      $what"; else
    echo "NOT OK  $what: $*: $said" && failed=$((failed + 1))
  fi
}

# is WHAT EXPECTED GOT
is() {
  if [ "$2" = "$3" ]; then echo "ok      $1: $3"; else
    echo "NOT OK  $1: $3, not $2" && failed=$((failed + 1))
  fi
}

# soon WHAT COMMAND…: holds within half a minute.
soon() {
  what=$1 begun=$(now) && shift
  until "$@" >/dev/null 2>&1; do
    if [ $(($(now) - begun)) -gt 3000 ]; then
      echo "NOT OK  $what: $* does not come to hold" && failed=$((failed + 1))
      return
    fi
    sleep 0.1
  done
  echo "ok      $what ($(($(now) - begun))0 ms)"
}

# Hundredths of a second since the boot.
now() { sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\2/; s/^0*\([0-9]\)/\1/' /proc/uptime; }

no() { ! "$@"; }
status() { head -n 1 "$services/$1.status"; }
reads() { grep -q -- "$2" "$services/$1.status"; } # reads NAME PATTERN
pid() { sed -n 's/^pid: //p' "$services/$1.status"; }
lives() { kill -0 "$1"; }

verdict() {
  [ $failed = 0 ] && exit 0
  echo "$failed lines are not ok"
  exit 1
}

# A node in a group of its own, as a service manager would make one, with the controllers that are named.
services=/root/services.d
crowd() { # everybody who was there before goes into a group beside it
  mkdir -p $services /sys/fs/cgroup/rest
  for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$pid" >/sys/fs/cgroup/rest/cgroup.procs 2>/dev/null; done
  echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
}
begin() { # begin GROUP
  own=/sys/fs/cgroup/$1
  mkdir -p "$own"
  sh -c "echo 0 >$own/cgroup.procs && exec plugd run $services" >>/root/plugd.log 2>&1 &
  keeper=$!
  soon "plugd runs in $own" reads _controller "keeperPid: $keeper,"
  groups=$(echo "$own"/plugd-*)
}
group() { echo "$groups/$1.0"; }
reads_file() { is "$2 of $1" "$3" "$(cat "$(group "$1")/$2")"; } # reads_file NAME FILE EXPECTED
controller() { sed -n 's/^controller: {pid: \([0-9]*\),.*/\1/p' $services/_controller.status; }
