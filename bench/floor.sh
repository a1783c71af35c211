#!/usr/bin/env bash
# floor.sh cluster|worker built|shipped: by hand what site.yml does, and no more: no idempotence, no options, no recovery.
# It is the floor that the collection's run times are held against.
#
#   cluster  the five hosts of inventory/hosts.yml, until all of Airflow is healthy and each worker has run a task
#   worker   worker3, into the running cluster, until it has run a task
#   built    each host builds its Python environment, from a warm cache of uv
#   shipped  scheduler1 builds it, the others get its files, bytecode included
#
# Environment: TESTBED is the folder with the hosts' ssh_config, where it also keeps what it needs later; UV the program;
# LOCK and REQUIREMENT what to install; SEAWEEDFS the store's requirements; ADMIN_PASSWORD.
set -euo pipefail
: "${TESTBED:?}" "${UV:?}" "${LOCK:?}" "${REQUIREMENT:?}" "${SEAWEEDFS:?}" "${ADMIN_PASSWORD:?}"
here=$(cd "$(dirname "$0")" && pwd)
what=$1 way=$2
kit=$TESTBED/floor packed=$TESTBED/venv.tar web=http://10.83.3.12:8080

on() { # on HOST COMMAND...
  ssh -F "$TESTBED/ssh_config" "$@"
}
each() { # each "STEP..." HOST...: at the same time
  local steps=$1 jobs=() host job
  for host in "${@:2}"; do
    on "$host" "sudo bash /root/floor/floor_host.sh $steps" </dev/null &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}
hand_out() { # hand_out HOST...: what the hosts need for their steps
  local host
  for host in "$@"; do tar -C "$TESTBED" -c floor | on "$host" sudo tar -C /root --no-same-owner -x; done
}
ship() { # ship HOST...: the packed environment
  local jobs=() host job
  for host in "$@"; do
    on "$host" sudo bash /root/floor/floor_host.sh unpack <"$packed" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}
key() { # key BYTES
  head -c "$1" /dev/urandom | base64 -w 0 | tr '+/' '-_'
}

if [ "$what" = worker ]; then
  hand_out worker3
  if [ "$way" = built ]; then each environment worker3; else ship worker3; fi
  each "configure start" worker3
  "$here/probe.py" run "$web" on_worker3
  exit
fi

mkdir -m 700 "$kit"
cp "$here/floor_host.sh" "$UV" "$kit"
cp "$LOCK" "$kit/lock"
cp "$SEAWEEDFS" "$kit/seaweedfs.txt"
{
  printf 'REQUIREMENT=%q ADMIN_PASSWORD=%q\n' "$REQUIREMENT" "$ADMIN_PASSWORD"
  printf 'DATABASE_PASSWORD=%s RESULTS_PASSWORD=%s REDIS_PASSWORD=%s\n' "$(key 24)" "$(key 24)" "$(key 24)"
  printf 'FERNET_KEY=%s JWT_SECRET=%s API_SECRET_KEY=%s\n' "$(key 32)" "$(key 48)" "$(key 36)"
  printf 'LOGS_ACCESS_KEY=%s LOGS_SECRET_KEY=%s\n' "$(key 15)" "$(key 24)"
} >"$kit/settings"

hosts=(scheduler1 web1 worker1 worker2)
hand_out store1 "${hosts[@]}"
each store store1 &
store=$!
if [ "$way" = built ]; then
  each "environment configure" "${hosts[@]}"
else
  each "environment configure" scheduler1
  on scheduler1 sudo tar -C /opt/airflow -c venv >"$packed"
  ship web1 worker1 worker2
  each configure web1 worker1 worker2
fi
wait "$store"
each migrate scheduler1
each start "${hosts[@]}"
"$here/probe.py" health "$web"
"$here/probe.py" run "$web" on_worker1 on_worker2
