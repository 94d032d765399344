# Messages and steps shared by the scripts. Sourced, never run.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
log_folder=$root/build/logs

# Plain text where nobody looks at a terminal.
[[ -t 1 ]] || export NO_COLOR=1 TERM=dumb

say() { printf '== %s\n' "$*"; }

# One line that says what is wrong, then a non-zero end.
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# step "what it does" command...: progress, the time it took, and the log's end when it fails.
step() {
  local what=$1 name log started=$SECONDS
  shift
  name=$(printf '%s' "$what" | tr -cs 'A-Za-z0-9' '-')
  log=$log_folder/${name%-}.log
  mkdir -p "$log_folder"
  printf '== %s ... ' "$what"
  if "$@" >"$log" 2>&1 </dev/null; then
    printf 'ok, %d s\n' $((SECONDS - started))
  else
    local status=$?
    printf 'failed after %d s\n' $((SECONDS - started))
    tail -n 60 "$log" >&2
    die "failed: $what (all of its output: $log)"
    return "$status"
  fi
}
