# Builds what `scripts/rdma-lab bench` runs in the machine. Sourced after common.sh, needs.sh and environment.sh.
# shellcheck shell=bash

# The benchmark of the engine alone: the caller's, or built where a user's build of the tests is.
ensure_lane_benchmark() {
  local folder=$root/build/native
  lane_benchmark=${MOONCAKE_MPI_LANE_BENCHMARK:-$folder/tests/native/lane_benchmark}
  [[ -z ${MOONCAKE_MPI_LANE_BENCHMARK:-} ]] || return 0
  ensure_needs native-tests >&2
  ensure_venv >&2
  step "install the build tools from PyPI" pip_install "${build_tools[@]}" >&2
  step "configure the benchmark" with_tools cmake -S "$root" -B "$folder" -G Ninja -DMOONCAKE_MPI_PYTHON=OFF \
    -DMOONCAKE_MPI_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >&2
  step "build the benchmark" with_tools cmake --build "$folder" --target lane_benchmark >&2
}
