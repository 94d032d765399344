# What the machine itself must have: Python, its headers, a compiler; for scripts/hosts the tools of
# networks. Sourced after common.sh.
# shellcheck shell=bash

python3=${PYTHON:-python3}
missing=()       # what it is, in words
missing_apt=()   # the Debian packages that have it
missing_dnf=()   # the Fedora and RHEL packages that have it

need() { # need "words" apt-package dnf-package
  missing+=("$1")
  missing_apt+=("$2")
  missing_dnf+=("$3")
}

python_has() { "$python3" -c "$1" >/dev/null 2>&1; }

compiles() { # compiles "source": with the compiler that CMake would take
  local cxx=${CXX:-}
  if [[ -z $cxx ]]; then
    cxx=$(command -v c++ || command -v g++ || command -v clang++ || true)
  fi
  [[ -n $cxx ]] && printf '%s\n' "$1" |
    $cxx -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1
}

look_for_needs() { # look_for_needs [native-tests|hosts]
  missing=() missing_apt=() missing_dnf=()
  if [[ ${1:-} == hosts ]]; then
    { command -v ip && command -v tc && command -v ss; } >/dev/null || need "ip, tc and ss" iproute2 "iproute iproute-tc"
    command -v nft >/dev/null || need nft nftables nftables
    return 0
  fi
  if ! python_has 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    need "Python >= 3.10" "python3 python3-venv python3-dev" "python3 python3-devel"
  else
    python_has 'import ensurepip, venv' || need "Python's venv module" python3-venv python3
    python_has 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
      need "Python.h" python3-dev python3-devel
  fi
  compiles '#include <span>
#include <concepts>
int main() { return 0; }' || need "a C++20 compiler" g++ gcc-c++
  if [[ ${1:-} == native-tests ]]; then
    compiles '#include <gtest/gtest.h>' || need GoogleTest libgtest-dev gtest-devel
    compiles '#include <infiniband/verbs.h>' || need "libibverbs' headers" libibverbs-dev rdma-core-devel
  fi
}

# Ends with one line that says what to install; as root on Debian, installs it.
ensure_needs() {
  look_for_needs "$@"
  ((${#missing[@]})) || return 0
  if [[ $(id -u) == 0 && -e /etc/debian_version ]] && command -v apt-get >/dev/null; then
    say "not here: $(join ', ' "${missing[@]}"); root on Debian, so apt-get installs it"
    # several packages in one word: split on purpose
    # shellcheck disable=SC2048,SC2086
    step "apt-get install ${missing_apt[*]}" install_with_apt ${missing_apt[*]}
    look_for_needs "$@"
  fi
  ((${#missing[@]} == 0)) || die "not here: $(join ', ' "${missing[@]}");" \
    "apt-get install ${missing_apt[*]}, or dnf install ${missing_dnf[*]}"
}

install_with_apt() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "$@" ||
    { apt-get update && apt-get install -y --no-install-recommends "$@"; }
}

join() {
  local separator=$1 joined=$2
  shift 2
  for word; do joined+=$separator$word; done
  printf '%s' "$joined"
}
