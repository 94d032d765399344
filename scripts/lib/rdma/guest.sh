#!/usr/bin/env bash
# The first process on the host's files: makes the rails, runs the job, leaves its status and switches off.
# In its folder: cwd, environment, command, or none of them for a shell.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
source "${BASH_SOURCE[0]%/*}/rails.sh"
job=$guest_folder

tell() { printf 'rdma-lab: %s\n' "$*" >/dev/kmsg; }

switch_off() {
  tell "switching off"
  sync
  echo o >/proc/sysrq-trigger
  sleep 60
}

run_command() {
  local command
  mapfile -d '' command <"$job/command"
  cd "$(cat "$job/cwd")" || return
  # all of the caller's variables; what only this shell may set is read-only and says so
  source "$job/environment" 2>/dev/null
  extend_paths
  exec setsid "${command[@]}"
}

extend_paths() {
  export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$(cat "$job/python_path")
}

mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
hostname rdma-lab
ip link set lo up
ulimit -l unlimited
if ! make_rails 2>/dev/kmsg || ! await_rails; then
  tell "the rails cannot be made"
  switch_off
fi
read -r seconds _ </proc/uptime
tell "up after $seconds s"
printf '%s\n' "$seconds" >"$job/up"

if [[ -e $job/command ]]; then
  output=$(echo /dev/vport*p1)
  # A port opens once only, and a program may open /dev/stdout again: between them is a pipe.
  (run_command) </dev/null 2>&1 | cat >"$output"
  status=${PIPESTATUS[0]}
else
  cd "$(cat "$job/cwd")" || cd /
  extend_paths
  stty -F /dev/hvc0 rows "$(sed -n 1p "$job/terminal")" cols "$(sed -n 2p "$job/terminal")"
  TERM=$(sed -n 3p "$job/terminal") setsid --ctty bash -i </dev/hvc0 >/dev/hvc0 2>&1
  status=$?
fi
printf '%s\n' "$status" >"$job/status"
switch_off
