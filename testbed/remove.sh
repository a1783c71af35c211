#!/usr/bin/env bash
# remove.sh NAME: removes a testbed's containers and network. remove.sh --caches: removes the images and the volume of
# package downloads, unless a testbed is still there.
set -euo pipefail

name=$1
here=$(cd "$(dirname "$0")" && pwd)
command -v dockerd >/dev/null || exit 0
"$here/engine.sh"

remove() { # remove KIND ID...: silent where there is nothing to remove
  local kind=$1
  shift
  [ $# -eq 0 ] || docker "$kind" rm ${FORCE:+--force} "$@" | sed "s/^/removed $kind /"
}

if [ "$name" != --caches ]; then
  mapfile -t containers < <(docker ps --all --quiet --filter "label=airfield.testbed=$name")
  FORCE=1 remove container "${containers[@]}"
  mapfile -t networks < <(docker network ls --quiet --filter "name=^airfield-$name$")
  # Docker can miscount the endpoints of containers that end at once, until its daemon restarts. Such a network is empty,
  # and the next testbed of this name uses it again.
  remove network "${networks[@]}" || [ "$(docker network inspect --format '{{len .Containers}}' "${networks[@]}")" = 0 ]
elif [ -z "$(docker ps --all --quiet --filter label=owner=airfield)" ]; then
  # The newest first, as Docker lists them: it refuses to remove an image on which another is built. One that was built anew has
  # left its predecessor without a name.
  mapfile -t images < <(
    { docker images --quiet --filter label=owner=airfield; docker images --quiet --filter 'reference=airfield-*'; } \
      | awk '!seen[$0]++'
  )
  FORCE=1 remove image "${images[@]}"
  mapfile -t volumes < <(docker volume ls --quiet --filter 'name=^airfield-')
  remove volume "${volumes[@]}"
fi
