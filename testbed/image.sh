#!/usr/bin/env bash
# image.sh SUITE: builds the test hosts' image airfield-host:SUITE from Debian's archive, without any image registry.
# The image carries the extra CA certificates that this machine trusts. Rebuilt when a file in image/ or a CA changes.
# image.sh SUITE-NAME: builds airfield-host:SUITE-NAME on top of that, with what image-NAME/ adds.
set -euo pipefail
[ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"
here=$(cd "$(dirname "$0")" && pwd)
suite=${1%%-*} image=airfield-host:$1
variant=${1#"$suite"}
base=airfield-base:$suite
if [ -n "$variant" ]; then
  "$here/image.sh" "$suite"
  base=airfield-host:$suite
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp -r "$here/image$variant/." "$context"
[ -z "$variant" ] || docker image inspect -f '{{.Id}}' "$base" >"$context/base"
mkdir -p "$context/ca"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$context/ca/" \; 2>/dev/null || true
touch "$context/ca/.keep"
digest=$(cd "$context" && find . -type f | sort | xargs sha256sum | sha256sum | cut -c1-16)

if [ "$(docker image inspect -f '{{index .Config.Labels "airfield.digest"}}' "$image" 2>/dev/null)" = "$digest" ]; then
  exit 0
fi

if ! docker image inspect "$base" >/dev/null 2>&1; then
  echo "image: building the base of Debian $suite with mmdebstrap"
  "$here/apt.sh" mmdebstrap
  # shellcheck disable=SC2016 # mmdebstrap's shell expands it
  # A file between the two: a failing import would make a piped mmdebstrap HUP this script's process group.
  mmdebstrap --quiet --variant=apt --components=main --include=ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --customize-hook=': > "$1/etc/hostname"; : > "$1/etc/resolv.conf"; : > "$1/etc/hosts"; : > "$1/etc/machine-id"' \
    "$suite" "$context.tar"
  docker import -c 'CMD ["/bin/bash"]' "$context.tar" "$base" >/dev/null
  rm -f "$context.tar"
fi

echo "image: building $image"
DOCKER_BUILDKIT=0 docker build --quiet --build-arg BASE="$base" --label "airfield.digest=$digest" \
  --label owner=airfield --tag "$image" "$context" >/dev/null
