#!/usr/bin/env bash
# Makes a Docker engine answer: installs Debian's docker.io where there is none and starts the daemon where it is
# down, under systemd or, where systemd is not PID 1, directly. Safe to run any number of times.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
log=/var/log/dockerd.log
# A systemd host holds 6 to 8 inotify instances; the kernel's default of 128 is used up by about twelve hosts.
instances=/proc/sys/fs/inotify/max_user_instances
answers() { docker info >/dev/null 2>&1; }
ready() { answers && [ "$(cat $instances)" -ge 1024 ]; }

ready && exit 0
if [ "$(id -u)" != 0 ]; then
  sudo -- "$here/engine.sh"
  # Being in group docker would count from the next login on.
  answers || { "$here/apt.sh" acl && sudo setfacl --modify "user:$(id -un):rw" /run/docker.sock; }
  exit 0
fi

exec 9>/run/lock/airfield-engine.lock
flock 9
echo 1024 >$instances
command -v dockerd >/dev/null || "$here/apt.sh" docker.io iptables procps
answers && exit 0
echo "engine: starting dockerd"
if [ -d /run/systemd/system ]; then
  systemctl enable --quiet --now docker.service
else
  # A killed daemon leaves its pid file; dockerd refuses to start beside one whose pid is in use again.
  pgrep -x dockerd >/dev/null || rm -f /var/run/docker.pid /run/docker/containerd/containerd.pid
  setsid nohup dockerd >>"$log" 2>&1 </dev/null 9>&- &
fi
for _ in $(seq 240); do
  answers && exit 0
  sleep 0.25
done
echo "engine: the Docker daemon did not answer within 60 s; the end of $log:" >&2
tail -20 "$log" >&2
exit 1
