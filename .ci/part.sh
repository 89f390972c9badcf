# shellcheck shell=bash
# What .ci/run and .ci/nightly have in common. To be sourced.

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
resolve_environment  # before anything that takes long

export CI=${CI:-true}  # so that no test is skipped for want of a database or a program

part() {  # NAME COMMAND...
  printf '\n== %s\n' "$1"
  local begin=$SECONDS
  "${@:2}"
  printf '== %s: %s s\n' "$1" $((SECONDS - begin))
}
