#!/usr/bin/env bash
# yardstick.sh: how fast this machine is right now, as the CPU seconds of a fixed amount of interpreter work (user time)
# and of writing 300 MB in small files (system time). Figures taken under different yardsticks do not compare.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

TIMEFORMAT='interpreter %U s'
time python3 -c 'sum(i * i % 7 for i in range(6_000_000))'
TIMEFORMAT='small files %S s'
time python3 - "$directory" <<'PY'
import os
import sys

block = os.urandom(50_000)
for number in range(6000):
    with open(f"{sys.argv[1]}/{number}", "wb") as stream:
        stream.write(block)
PY
