# Boots the RDMA lab's machine and waits for its end. Sourced after common.sh, image.sh and rails.sh.
# shellcheck shell=bash

boot_limit=150    # seconds; 6 to 11 on a machine with nothing else to do
job='' qemu_pid=''
# By these a user tells libraries which instructions they may take: those of this machine's processor,
# which the emulated one does not have.
processor_settings=(OPENBLAS_CORETYPE OPENBLAS_L2_SIZE MKL_ENABLE_INSTRUCTIONS MKL_DEBUG_CPU_TYPE
  BLIS_ARCH_TYPE ATEN_CPU_CAPABILITY DNNL_MAX_CPU_ISA ONEDNN_MAX_CPU_ISA NPY_ENABLE_CPU_FEATURES
  NPY_DISABLE_CPU_FEATURES GLIBC_TUNABLES)

# Everything that one machine leaves is in its folder, which goes with this shell.
make_job() {
  job=$(mktemp -d "${TMPDIR:-/tmp}/rdma-lab.XXXXXX")
  mkfifo "$job/never"
  trap end_machine EXIT
  for signal in HUP:1 INT:2 TERM:15; do
    # shellcheck disable=SC2064
    trap "exit $((128 + ${signal#*:}))" "${signal%:*}"
  done
}

end_machine() {
  trap '' HUP INT TERM
  local pid
  for pid in "$qemu_pid" "${output_pid:-}"; do
    if [[ -n $pid ]]; then kill -KILL "$pid" 2>/dev/null || true; fi
  done
  { wait || true; } 2>/dev/null
  rm -rf "$job"
}

check_memory() {
  local available
  available=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  ((available >= memory + 256)) ||
    die "the machine takes $memory MiB of memory and $available MiB are free; --memory takes less (from 1536)"
}

# The arguments of QEMU that a run and a shell share, in `machine`.
describe_machine() {
  # An emulated processor without AVX, SMAP and the like has a kernel that is twice as fast.
  local accel=tcg,thread=multi processor=Nehalem index=0 folder
  check_memory
  case ${MOONCAKE_MPI_RDMA_LAB_ACCEL:-tcg} in
    tcg) ;;
    kvm)
      accel=kvm processor=host
      [[ -w /dev/kvm ]] || die "MOONCAKE_MPI_RDMA_LAB_ACCEL=kvm, and /dev/kvm cannot be opened"
      ;;
    *) die "MOONCAKE_MPI_RDMA_LAB_ACCEL is '$MOONCAKE_MPI_RDMA_LAB_ACCEL': it may be tcg or kvm" ;;
  esac
  if [[ -z $cpus ]]; then cpus=$(($(nproc) < 4 ? $(nproc) : 4)); fi

  pwd >"$job/cwd"
  printf '%s\n' "$root/scripts/lib/rdma/guest.sh" >"$job/guest"
  printf '%s\n' "$lab_python_path" >"$job/python_path"
  : >"$job/writable"
  # A process that the script leaves behind, whatever ended it, would be a machine that nobody looks at.
  machine=(setpriv --pdeathsig KILL qemu-system-x86_64 -M q35 -accel "$accel" -cpu "$processor"
    -smp "$cpus" -m "$memory" -nodefaults -display none -no-reboot -kernel "$image/kernel"
    -initrd "$image/initramfs.gz"
    -append "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off tsc=reliable norandmaps"
    -serial "file:$job/console" -device virtio-serial-pci)
  # Without remap, files of two file systems could have one inode number.
  share_folder host / ,readonly=on,multidevs=remap
  share_folder job "$job" ,multidevs=remap
  for folder in "${writable[@]}"; do
    share_folder "out$index" "$folder" ,multidevs=remap
    printf '%s %s\n' "out$index" "$folder" >>"$job/writable"
    index=$((index + 1))
  done
}

share_folder() { # share_folder tag folder options
  machine+=(-fsdev "local,id=$1,path=$2,security_model=none$3"
    -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}

run_in_machine() {
  local attempt
  make_job
  describe_machine
  (
    if [[ ${MOONCAKE_MPI_RDMA_LAB_ACCEL:-tcg} == tcg ]]; then unset "${processor_settings[@]}"; fi
    export -p
  ) >"$job/environment"
  printf '%s\0' "$@" >"$job/command"
  mkfifo "$job/output"
  machine+=(-chardev "file,id=output,path=$job/output" -device virtserialport,chardev=output,name=output)
  for attempt in first second; do
    if boot; then
      wait_for_end
      finish
    fi
    if [[ $attempt == first ]]; then printf 'rdma-lab: no boot; once more\n' >&2; fi
  done
  show_console
  die "the machine did not come up, twice (limit $boot_limit s); the end of its console is above"
}

# True when the guest has come up, or has already come to its end.
boot() {
  started=$SECONDS
  rm -f "$job/up" "$job/status" "$job/console"
  cat "$job/output" &
  output_pid=$!
  "${machine[@]}" </dev/null >"$job/qemu" 2>&1 &
  qemu_pid=$!
  until [[ -e $job/up ]]; do
    if ! kill -0 "$qemu_pid" 2>/dev/null || ((SECONDS - started > boot_limit)); then
      [[ ! -e $job/up ]] || return 0
      stop_qemu
      return 1
    fi
    pause 0.2
  done
}

# Sleeps without a process that could outlive this shell, and lets a signal in.
pause() {
  read -r -t "$1" <>"$job/never" || true
}

wait_for_end() {
  while kill -0 "$qemu_pid" 2>/dev/null; do
    if ((SECONDS - started > ${limit:-600})); then
      stop_qemu
      printf 'rdma-lab: stopped at its limit of %d s\n' "${limit:-600}" >&2
      exit 124
    fi
    pause 0.2
  done
}

stop_qemu() {
  kill -KILL "$qemu_pid" 2>/dev/null || true
  wait "$qemu_pid" 2>/dev/null || true
  # Without QEMU, the output has no writer; a reader that never had one still waits for it.
  if [[ -n ${output_pid:-} ]]; then
    : 1<>"$job/output"
    wait "$output_pid" 2>/dev/null || true
  fi
}

# Ends this shell as the command ended.
finish() {
  wait "$output_pid" 2>/dev/null || true
  if [[ -s $job/status ]]; then exit "$(cat "$job/status")"; fi
  show_console
  die "the machine ended before the command did; the end of its console is above"
}

show_console() {
  tail -n 40 "$job/console" "$job/qemu" >&2 2>/dev/null || true
}

shell_in_machine() {
  make_job
  describe_machine
  { stty size | tr ' ' '\n' && printf '%s\n' "${TERM:-linux}"; } >"$job/terminal"
  say "a shell in the lab; exit or Ctrl-D ends it"
  "${machine[@]}" -chardev stdio,id=terminal,signal=off -device virtconsole,chardev=terminal || true
  if [[ -s $job/status ]]; then exit "$(cat "$job/status")"; fi
  show_console
  die "the machine did not come to a prompt; the end of its console is above"
}
