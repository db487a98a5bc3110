# begins: itself
# plugd as the first process of a machine, after a few lines of script: orphans, an order, the end of the machine.
. "$MACHINE/lib.sh"
mkdir -p $services /root/state
services_=$services
cat >$services/base.yaml <<'END'
script: |
  trap 'sleep 1; echo "base ends" >/dev/ttyS1; exit 0' TERM
  while :; do sleep 0.2; done
END
cat >$services/front.yaml <<'END'
script: |
  trap 'sleep 1; echo "front ends" >/dev/ttyS1; exit 0' TERM
  while :; do sleep 0.2; done
dependsOn: [base]
END
cat >$services/calm.yaml <<'END'
command: sleep 86400
resources: {limits: {cpu: 500m, memory: 64Mi, pids: 16}}
END
cat >$services/check.yaml <<END
command: sh $MACHINE/first-check.sh
restart: Never
END
export PLUGD_NO_TEE=
exec plugd run $services
