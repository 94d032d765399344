# The packages and the bootable image of the RDMA lab. Sourced after common.sh and needs.sh.
# shellcheck shell=bash

lab_folder=${MOONCAKE_MPI_RDMA_LAB:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mooncake_mpi/rdma-lab}

# The package rdma-core is not among them: it would upgrade systemd and bring udev into a container.
lab_packages=(qemu-system-x86 busybox-static ibverbs-utils ibverbs-providers libibverbs-dev perftest
  iproute2 kmod cpio xz-utils)

# What the guest loads, each after what it depends on. rdma_rxe asks for crc32 through the kernel's
# crypto interface, so nothing but this list says that it needs crc32_generic.
lab_modules=(virtio_pci virtio_console 9pnet_virtio 9p overlay veth crc32_generic ib_uverbs rdma_ucm
  rdma_rxe sch_netem)

ensure_lab() {
  [[ ! -d $guest_folder ]] || die "this is the inside of the lab already"
  [[ $(uname -m) == x86_64 ]] || die "the lab's machine is x86_64, this one is $(uname -m)"
  [[ $(id -u) == 0 ]] || die "needs root: it installs packages, and shares all files with the machine"
  [[ -e /etc/debian_version ]] && command -v apt-get >/dev/null ||
    die "needs Debian's apt-get: the kernel and the verbs libraries are Debian's"
  ensure_lab_packages
  ensure_image
}

ensure_lab_packages() {
  local package missing=()
  for package in "${lab_packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]} == 0)) || step "apt-get install ${missing[*]}" install_with_apt "${missing[@]}" >&2
}

# The image is named after everything that it is made from but the kernel; it is made once, in a folder
# beside its place, so that another run never sees half of one.
ensure_image() {
  local recipe
  recipe=$(cat "$root"/scripts/lib/rdma/{init,image.sh} | md5sum)
  image=$lab_folder/image-${recipe:0:12}
  # for the system's Python and environments made from it
  lab_python_path=$image/pyverbs/usr/lib/python3/dist-packages
  [[ ! -e $image/initramfs.gz ]] || return 0
  mkdir -p "$lab_folder"
  exec {image_lock}>"$lab_folder/lock"
  flock "$image_lock"
  if [[ ! -e $image/initramfs.gz ]]; then
    rm -rf "$lab_folder"/image-* "$lab_folder"/new.*
    step "make the lab's image in $lab_folder" make_image >&2
  fi
  exec {image_lock}>&-
}

make_image() {
  local new package version module file kind
  new=$(mktemp -d "$lab_folder/new.XXXXXX")
  package=$(kernel_package) || { apt-get update && package=$(kernel_package); }
  version=${package#linux-image-}
  # Unpacked and not installed: nothing here boots the kernel, and pyverbs would bring rdma-core.
  unpack_package "$package" "$new"
  unpack_package python3-pyverbs "$new/pyverbs"
  depmod -b "$new" "$version"

  mkdir -p "$new/initramfs"/{bin,modules,proc,sys,dev,host,changes,root}
  cp "$(command -v busybox)" "$new/initramfs/bin/busybox"
  ln -s busybox "$new/initramfs/bin/sh"
  for module in "${lab_modules[@]}"; do
    while read -r kind file _; do
      if [[ $kind == insmod ]]; then add_module "$file" "$new/initramfs/modules"; fi
    done < <(modprobe -d "$new" -S "$version" --show-depends "$module")
  done
  install -m 755 "$root/scripts/lib/rdma/init" "$new/initramfs/init"
  unpack_kernel "$new/boot/vmlinuz-$version" "$new/kernel"
  (cd "$new/initramfs" && find . | cpio --quiet -o -H newc | gzip -1) >"$new/initramfs.gz"
  rm -rf "$new"/{boot,etc,lib,usr,initramfs}
  mv "$new" "$image"
}

unpack_package() { # unpack_package name folder
  # APT must not drop its rights: they are needed in this folder.
  local download=(apt-get download -o APT::Sandbox::User=root "$1")
  mkdir -p "$2"
  (cd "$2" && { "${download[@]}" || { apt-get update && "${download[@]}"; }; })
  dpkg-deb --extract "$2/$1"_*.deb "$2"
  rm "$2/$1"_*.deb
}

kernel_package() {
  apt-cache depends linux-image-amd64 2>/dev/null |
    awk '/Depends: linux-image-[0-9]/ { print $2; found = 1 } END { exit !found }'
}

add_module() { # add_module file folder: uncompressed, and at the end of the list
  local name
  name=$(basename "$1")
  name=${name%.xz}
  if [[ -e $2/$name ]]; then return 0; fi
  case $1 in
    *.xz) xz -dc "$1" >"$2/$name" ;;
    *) cp "$1" "$2/$name" ;;
  esac
  printf '%s\n' "$name" >>"$2/list"
}

# A compressed kernel unpacks itself at every boot, which takes an emulated processor six seconds.
# The offsets are those of the x86 boot protocol: setup_sects, payload_offset, payload_length.
unpack_kernel() { # unpack_kernel bzImage target
  local sectors offset length
  sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
  offset=$(od -An -tu4 -j $((0x248)) -N 4 "$1")
  length=$(od -An -tu4 -j $((0x24c)) -N 4 "$1")
  offset=$(((sectors == 0 ? 5 : sectors + 1) * 512 + offset))
  # the payload ends with its unpacked size, which is not xz's
  tail -c +$((offset + 1)) "$1" | head -c $((length)) | xz -dc --single-stream >"$2" || true
  [[ $(head -c 4 "$2") == $'\x7fELF' ]] || cp "$1" "$2"
}
