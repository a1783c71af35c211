#!/usr/bin/env bash
# Pins the packages of every release that has a .in file here, and describes the release (../describe_release.py).
# No package published after the file's "# cut-off: DATE" counts, so that a lock can be made anew and come out equal. What must be
# newer has a later date of its own, "# cut-off of PACKAGES: DATE", so that the rest stays what has been tested.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
releases=roles/airflow/files/releases
export UV_SYSTEM_CERTS=1
python=3.11 # Debian 12's

for input in "$releases"/airflow-*.in; do
  release=${input%.in}
  lock=$release-python$python.lock
  newer=()
  while read -r package date; do
    newer+=(--exclude-newer-package "$package=$date")
  done < <(awk -F ': ' '/^# cut-off of / { split(substr($1, 14), names, " "); for (i in names) print names[i], $2 }' "$input")
  uv pip compile --quiet --upgrade --python-version "$python" --generate-hashes --custom-compile-command "make lock" \
    --exclude-newer "$(sed -n 's/^# cut-off: //p' "$input")" "${newer[@]}" --output-file "$lock" "$input"
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
  uv venv --quiet --clear --python "$python" "$venv"
  # Those two are built from C sources, for which this machine may lack a compiler, and declare no option.
  uv pip sync --quiet --python "$venv/bin/python" \
    <(uv pip compile --quiet --generate-hashes --no-emit-package mysqlclient --no-emit-package python-ldap "$lock")
  "$venv/bin/python" $releases/../describe_release.py >"$release.json"
  rm -rf "$venv"
done
