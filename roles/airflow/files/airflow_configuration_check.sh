#!/bin/sh
# Managed by Airfield. Fails where Airflow would run with its own defaults, an SQLite database and LocalExecutor, without a word.
file=${AIRFLOW_CONFIG:-/etc/airflow/airflow.cfg}
if [ ! -e "$file" ]; then problem="is missing"
elif [ ! -r "$file" ]; then problem="cannot be read by user $(id -un) (uid $(id -u), groups $(id -G))"
elif [ ! -s "$file" ]; then problem="is empty"
elif ! grep -q '^executor = ' "$file"; then problem="names no executor"
else exit 0
fi
echo "$file $problem: Airflow was not started, since it would run with its defaults. Remedy: run site.yml, which writes the file" \
  "for the account in the inventory (airflow_user, airflow_group)." >&2
exit 78
