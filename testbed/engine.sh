#!/usr/bin/env bash
# Makes a Docker engine answer: installs Debian's docker.io where there is none and starts the daemon where it is
# down, under systemd or, where systemd is not PID 1, directly. Safe to run any number of times.
set -euo pipefail

log=/var/log/dockerd.log
answers() { docker info >/dev/null 2>&1; }

if ! answers; then
  [ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"
  exec 9>/run/lock/airfield-engine.lock
  flock 9
  command -v dockerd >/dev/null || "$(dirname "$0")/apt.sh" docker.io iptables
  if ! answers; then
    echo "engine: starting dockerd"
    if [ -d /run/systemd/system ]; then
      systemctl enable --quiet --now docker.service
    else
      # A killed daemon leaves its pid file; dockerd refuses to start beside one whose pid is in use again.
      pgrep -x dockerd >/dev/null || rm -f /var/run/docker.pid /run/docker/containerd/containerd.pid
      setsid nohup dockerd >>"$log" 2>&1 </dev/null 9>&- &
    fi
  fi
  for _ in $(seq 240); do
    answers && break
    sleep 0.25
  done
  answers || {
    echo "engine: the Docker daemon did not answer within 60 s; the end of $log:" >&2
    tail -20 "$log" >&2
    exit 1
  }
fi

# A systemd host holds 6 to 8 inotify instances; the kernel's default of 128 is used up by about twelve hosts.
instances=/proc/sys/fs/inotify/max_user_instances
if [ "$(cat $instances)" -lt 1024 ]; then
  if [ "$(id -u)" = 0 ]; then echo 1024 >$instances; else echo 1024 | sudo tee $instances >/dev/null; fi
fi
