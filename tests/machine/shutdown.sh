# begins: systemd
# A machine that is switched off while the unit runs: what is ordered after plugd ends before it, its services end in
# order, nothing is killed.
. "$MACHINE/lib.sh"
. "$MACHINE/managed.sh"
told=/run/told
for name in base front; do
  cat >$services/$name.yaml <<END
script: |
  trap 'sleep 1; echo "$name ends" >>$told; exit 0' TERM
  while :; do sleep 0.2; done
END
done
echo 'dependsOn: [base]' >>$services/front.yaml
cat >/etc/systemd/system/consumer.service <<END
[Unit]
Wants=plugd.service
After=plugd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo "consumer begins" >>$told; plugd --dir $services wait --all && echo "consumer finds all" >>$told'
ExecStop=/bin/sh -c 'plugd --dir $services wait --all && echo "consumer ends" >>$told'
END
# The very last word: when all are gone and before the machine is.
cat >/usr/lib/systemd/system-shutdown/verdict <<END
#!/bin/sh
exec >/dev/ttyS1 2>&1
. "$MACHINE/lib.sh"
is "what happened" "consumer begins, consumer finds all, consumer ends, front ends, base ends" \
  "\$(paste -s -d, $told | sed 's/,/, /g')"
is "what runs still" "" "\$(pgrep -a -x 'plugd|sleep')"
yes "nobody was killed" no sh -c "journalctl -D /run/log/journal -u plugd | grep -E 'SIGKILL|timed out|Failed'"
(verdict)
echo "exit code \$?"
sleep 0.2
END
chmod +x /usr/lib/systemd/system-shutdown/verdict
systemctl daemon-reload
systemctl start consumer
soon "front runs" reads front running
sync
echo "-- the machine is switched off"
trap '' TERM
systemctl reboot
sleep 100
