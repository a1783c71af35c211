#!/usr/bin/env bash
# floor_host.sh STEP...: one host's part of floor.sh. Run as root, in a folder with `settings`, `lock`, `seaweedfs.txt` and `uv`.
set -Eeuo pipefail
cd "$(dirname "$0")"
exec 3>&2 >log 2>&1
trap 'tail -n 20 log >&3' ERR

# shellcheck source=/dev/null # floor.sh writes it
. ./settings
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_SYSTEM_CERTS=true
venv=/opt/airflow/venv home=/var/lib/airflow host=$(hostname)
as() { # as USER COMMAND...
  (cd / && setpriv --reuid="$1" --regid="$1" --init-groups "${@:2}")
}

store() { # PostgreSQL with its two databases, Redis, SeaweedFS with its bucket
  apt-get -qq update
  apt-get -qq -y --no-install-recommends install redis-server postgresql

  local pg
  pg=$(echo /etc/postgresql/*/main)
  printf "listen_addresses = '*'\nmax_connections = 300\n" >"$pg/conf.d/floor.conf"
  printf 'host %s %s samenet scram-sha-256\n' airflow airflow airflow_results airflow_results >>"$pg/pg_hba.conf"
  printf 'bind 0.0.0.0\nrequirepass %s\nappendonly yes\n' "$REDIS_PASSWORD" >>/etc/redis/redis.conf
  systemctl restart redis-server postgresql
  as postgres psql -q <<SQL
CREATE ROLE airflow LOGIN PASSWORD '$DATABASE_PASSWORD';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE airflow_results LOGIN PASSWORD '$RESULTS_PASSWORD';
CREATE DATABASE airflow_results OWNER airflow_results;
SQL

  ./uv -q venv --python /usr/bin/python3 /opt/seaweedfs
  ./uv -q pip install --python /opt/seaweedfs/bin/python --require-hashes -r seaweedfs.txt
  useradd --system --home-dir /var/lib/seaweedfs --create-home --shell /usr/sbin/nologin seaweedfs
  cat >/etc/seaweedfs.json <<JSON
{"identities": [{"name": "airflow-logs", "credentials": [{"accessKey": "$LOGS_ACCESS_KEY", "secretKey": "$LOGS_SECRET_KEY"}],
                 "actions": ["Read:airflow-logs", "Write:airflow-logs", "List:airflow-logs", "Tagging:airflow-logs"]}]}
JSON
  cat >/etc/systemd/system/seaweedfs.service <<UNIT
[Service]
User=seaweedfs
ExecStart=/opt/seaweedfs/bin/weed -logtostderr=true server -dir=/var/lib/seaweedfs -ip=127.0.0.1 -ip.bind=0.0.0.0 \\
  -master.telemetry=false -master.volumeSizeLimitMB=1024 -volume.port=8380 -volume.max=0 -filer -s3 -s3.config=/etc/seaweedfs.json \\
  -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable -q --now seaweedfs
  until curl -sf http://127.0.0.1:8333/healthz >/dev/null; do sleep 0.2; done
  echo 's3.bucket.create -name airflow-logs' | /opt/seaweedfs/bin/weed shell -master=127.0.0.1:9333
}

environment() { # the Python environment, built here
  ./uv -q venv --python /usr/bin/python3 "$venv"
  ./uv -q pip install --python "$venv/bin/python" --compile-bytecode --constraint lock "$REQUIREMENT"
}

unpack() { # the Python environment, from standard input
  mkdir -p /opt/airflow
  tar -C /opt/airflow -x
}

configure() { # account, folders, airflow.cfg, units
  useradd --system --home-dir "$home" --create-home --shell /usr/sbin/nologin airflow
  install -d /opt/airflow/dags/current
  install -d -o airflow -g airflow /var/log/airflow
  cat >"$home/airflow.cfg" <<CFG
[core]
auth_manager = airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager
dags_folder = /opt/airflow/dags/current
executor = CeleryExecutor
load_examples = False
fernet_key = $FERNET_KEY
execution_api_server_url = http://web1:8080/execution/
[database]
sql_alchemy_conn = postgresql+psycopg2://airflow:$DATABASE_PASSWORD@store1/airflow
[celery]
broker_url = redis://:$REDIS_PASSWORD@store1:6379/0
result_backend = db+postgresql+psycopg2://airflow_results:$RESULTS_PASSWORD@store1/airflow_results
worker_concurrency = 4
[celery_broker_transport_options]
visibility_timeout = 86400
[api]
secret_key = $API_SECRET_KEY
[api_auth]
jwt_secret = $JWT_SECRET
[logging]
base_log_folder = /var/log/airflow
dag_processor_child_process_log_directory = /var/log/airflow/dag_processor
remote_logging = True
remote_log_conn_id = airflow_logs
remote_base_log_folder = s3://airflow-logs
CFG
  chown airflow:airflow "$home/airflow.cfg"
  chmod 600 "$home/airflow.cfg"
  {
    echo "AIRFLOW_HOME=$home"
    echo "PATH=$venv/bin:/usr/bin:/bin"
    echo "AIRFLOW_CONN_AIRFLOW_LOGS='aws://$LOGS_ACCESS_KEY:$LOGS_SECRET_KEY@/?region_name=us-east-1&endpoint_url=http%3A%2F%2Fstore1%3A8333'"
  } >/etc/default/airflow
  chmod 600 /etc/default/airflow

  case $host in
    scheduler*)
      unit scheduler scheduler
      unit dag-processor dag-processor
      unit triggerer triggerer
      ;;
    web*) unit api-server api-server ;;
    worker*) unit worker celery worker --queues "default,$host" ;;
  esac
}

unit() { # unit NAME ARGUMENT...
  cat >"/etc/systemd/system/airflow-$1.service" <<UNIT
[Unit]
Description=Airflow $1
[Service]
User=airflow
EnvironmentFile=/etc/default/airflow
ExecStart=$venv/bin/airflow ${*:2}
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
}

migrate() { # the schema and the first user
  set -a
  # shellcheck source=/dev/null
  . /etc/default/airflow
  as airflow airflow db migrate
  as airflow airflow users create -r Admin -u admin -p "$ADMIN_PASSWORD" -f a -l b -e admin@example.org
}

start() { # the services; a worker counts as started once it consumes
  local units
  units=$(cd /etc/systemd/system && echo airflow-*.service)
  # shellcheck disable=SC2086 # one word for each
  systemctl enable -q --now $units
  [[ $host != worker* ]] || until journalctl -q -o cat -u airflow-worker | grep -q "celery@$host ready"; do sleep 0.5; done
}

for step in "$@"; do "$step"; done
