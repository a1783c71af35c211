#!/usr/bin/env bash
# sanity.sh ARTIFACT: Ansible's own checks on the collection as people install it, outside the clone and without its link.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
artifact=$(realpath "$1")
installed=$(mktemp -d)
trap 'rm -rf "$installed"' EXIT

# The checks' own environments are kept in the clone, not in the user's home.
export HOME=$root/.cache/sanity ANSIBLE_COLLECTIONS_PATH=$installed
mkdir -p "$HOME/.ansible/test/cache"
# ansible-test would fetch pip's installer from a site that a machine behind a package proxy does not reach.
cat >"$HOME/.ansible/test/cache/get_pip_24_2.py" <<'PYTHON'
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "pip==24.2"])
PYTHON

cd "$installed"
ansible-galaxy collection install --collections-path "$installed" "$artifact" >/dev/null
cd "$installed/ansible_collections/airfield/metal"
ansible-test sanity --python 3.11 --color no

cd /
ansible-playbook --inventory "$root/inventories/demo" --syntax-check airfield.metal.site
