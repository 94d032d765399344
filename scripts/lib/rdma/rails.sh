# The rails of the RDMA lab: two cables, each with a Soft-RoCE device at both ends. Sourced.
# shellcheck shell=bash
#
# All ends are in one network namespace, as RXE devices of another one do not work. So the kernel would
# deliver a packet from one end to the other without the cable: every address is local. Rules on source
# and destination that come before the local table send it over the cable instead.

guest_folder=/run/rdma-lab   # exists only inside
rails=(0 1)
ends=(a b)

end_interface() { printf 'rail%s%s' "$1" "$2"; }
end_device() { printf 'rxe%s%s' "$1" "$2"; }
end_address() { if [[ $2 == a ]]; then printf '10.9.%s.1' "$1"; else printf '10.9.%s.2' "$1"; fi; }
other_end() { if [[ $1 == a ]]; then printf b; else printf a; fi; }
end_table() { if [[ $2 == a ]]; then printf '%d' $((200 + 2 * $1)); else printf '%d' $((201 + 2 * $1)); fi; }

make_rails() (
  set -e
  sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.accept_local=1
  ip rule add pref 100 lookup local
  ip rule del pref 0
  for rail in "${rails[@]}"; do
    ip link add "$(end_interface "$rail" a)" mtu 4200 type veth peer name "$(end_interface "$rail" b)" mtu 4200
    for end in "${ends[@]}"; do make_end "$rail" "$end"; done
    for end in "${ends[@]}"; do
      raise_end "$rail" "$end"
      rdma link add "$(end_device "$rail" "$end")" type rxe netdev "$(end_interface "$rail" "$end")"
    done
  done
)

make_end() {
  local interface address other
  interface=$(end_interface "$1" "$2")
  address=$(end_address "$1" "$2")
  other=$(end_address "$1" "$(other_end "$2")")
  # each end answers for its own address only, and takes packets that come from this machine
  sysctl -qw "net.ipv4.conf.$interface.accept_local=1" "net.ipv4.conf.$interface.rp_filter=0" \
    "net.ipv4.conf.$interface.arp_ignore=1" "net.ipv4.conf.$interface.arp_announce=2"
  ip address add "$address/24" dev "$interface"
  ip rule add pref 10 iif lo from "$address" to "$other" lookup "$(end_table "$1" "$2")"
}

# The kernel forgets an interface's routes when its link goes down.
raise_end() {
  local interface
  interface=$(end_interface "$1" "$2")
  ip link set "$interface" up
  ip route replace "$(end_address "$1" "$(other_end "$2")")/32" dev "$interface" \
    src "$(end_address "$1" "$2")" table "$(end_table "$1" "$2")"
}

chosen_ends() { # chosen_ends rail [a|b]
  [[ " ${rails[*]} " == *" ${1:-} "* ]] || die "no rail '${1:-}'; there are: ${rails[*]}"
  case ${2:-} in
    '') printf '%s\n' "${ends[@]}" ;;
    a | b) printf '%s\n' "$2" ;;
    *) die "no end '$2' of a rail; there are: ${ends[*]}" ;;
  esac
}

rail_down() {
  local end chosen
  chosen=$(chosen_ends "$@")
  for end in $chosen; do ip link set "$(end_interface "$1" "$end")" down; done
}

rail_up() {
  local end chosen
  chosen=$(chosen_ends "$@")
  for end in $chosen; do raise_end "$1" "$end"; done
}

rail_netem() {
  local end chosen rail=${1:-}
  chosen=$(chosen_ends "$rail")
  shift
  (($#)) || die "netem how? loss 2%, delay 1ms, ... or off"
  for end in $chosen; do
    if [[ $1 == off ]]; then
      tc qdisc del dev "$(end_interface "$rail" "$end")" root 2>/dev/null || true
    else
      tc qdisc replace dev "$(end_interface "$rail" "$end")" root netem "$@"
    fi
  done
}

rail_rails() {
  local rail end
  for rail in "${rails[@]}"; do
    for end in "${ends[@]}"; do
      printf '%s\n' "$rail$end: $(rdma link show "$(end_device "$rail" "$end")/1"), $(end_address "$rail" "$end")" \
        "    $(tc qdisc show dev "$(end_interface "$rail" "$end")" | head -n 1)"
    done
  done
}
