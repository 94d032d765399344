# The rails of the RDMA lab: two cables, each with a Soft-RoCE device at both ends. Sourced.
# shellcheck shell=bash
#
# All ends are in one network namespace, as RXE devices of another one do not work. So the kernel would
# deliver a packet from one end to the other without the cable: every address is local. Rules on source
# and destination that come before the local table send it over the cable instead.

guest_folder=/run/rdma-lab # exists only inside
rails=(0 1)
ends=(a b)

# Sets interface, device, address, other (the address at the cable's other end) and table. No process is
# started for it: an emulated processor takes milliseconds for each.
describe_end() { # describe_end rail a|b
  interface=rail$1$2 device=rxe$1$2
  if [[ $2 == a ]]; then
    address=10.9.$1.1 other=10.9.$1.2 table=$((200 + 2 * $1))
  else
    address=10.9.$1.2 other=10.9.$1.1 table=$((201 + 2 * $1))
  fi
}

make_rails() (
  set -e
  proc=/proc/sys/net/ipv4/conf
  rail_commands | ip -batch -
  for key in all "${rails[@]/%/a}" "${rails[@]/%/b}"; do
    [[ $key == all ]] || key=rail$key
    # a packet may come from this machine, and each end answers for its own address only
    printf 0 >"$proc/$key/rp_filter"
    printf 1 >"$proc/$key/accept_local"
    printf 1 >"$proc/$key/arp_ignore"
    printf 2 >"$proc/$key/arp_announce"
  done
  device_commands | rdma --batch -
)

# The kernel gives ports their state and their addresses a moment after it made them.
await_rails() {
  local rail end interface device address other table tries
  for rail in "${rails[@]}"; do
    for end in "${ends[@]}"; do
      describe_end "$rail" "$end"
      for ((tries = 0; tries < 100; tries++)); do
        [[ $(</sys/class/infiniband/$device/ports/1/state) == *ACTIVE ]] &&
          grep -qs :ffff: "/sys/class/infiniband/$device/ports/1/gids/"* && continue 2
        sleep 0.1
      done
      return 1
    done
  done
}

rail_commands() {
  local rail end interface device address other table
  printf '%s\n' "rule add pref 100 lookup local" "rule del pref 0"
  for rail in "${rails[@]}"; do
    printf '%s\n' "link add rail${rail}a mtu 4200 type veth peer name rail${rail}b mtu 4200"
    for end in "${ends[@]}"; do
      describe_end "$rail" "$end"
      printf '%s\n' "address add $address/24 dev $interface" \
        "rule add pref 10 iif lo from $address to $other lookup $table" "$(raise_commands)"
    done
  done
}

# The kernel forgets an interface's routes when its link goes down.
raise_commands() {
  printf '%s\n' "link set $interface up" "route replace $other/32 dev $interface src $address table $table"
}

device_commands() {
  local rail end interface device address other table
  for rail in "${rails[@]}"; do
    for end in "${ends[@]}"; do
      describe_end "$rail" "$end"
      printf '%s\n' "link add $device type rxe netdev $interface"
    done
  done
}

# Runs a function for the ends of a rail that were named.
for_ends() { # for_ends function rail [a|b]
  local action=$1 rail=${2:-} end interface device address other table
  [[ " ${rails[*]} " == *" $rail "* ]] || die "no rail '$rail'; there are: ${rails[*]}"
  [[ -z ${3:-} || " ${ends[*]} " == *" $3 "* ]] || die "no end '$3' of a rail; there are: ${ends[*]}"
  for end in ${3:-${ends[@]}}; do
    describe_end "$rail" "$end"
    "$action"
  done
}

rail_down() { for_ends lower_end "$@"; }
lower_end() { ip link set "$interface" down; }

rail_up() { for_ends raise_end "$@"; }
raise_end() { raise_commands | ip -batch -; }

rail_netem() { # rail_netem rail arguments...
  (($# > 1)) || die "netem on which rail, and how? loss 2%, delay 1ms, ... or off"
  local netem=("${@:2}")
  for_ends disturb_end "$1"
}

disturb_end() {
  if [[ ${netem[0]} == off ]]; then
    tc qdisc del dev "$interface" root 2>/dev/null || true
  else
    tc qdisc replace dev "$interface" root netem "${netem[@]}"
  fi
}

rail_rails() {
  local rail
  for rail in "${rails[@]}"; do for_ends show_end "$rail"; done
}

show_end() {
  printf '%s, %s\n' "$(rdma link show "$device/1")" "$address"
  printf '  %s\n' "$(tc qdisc show dev "$interface" root)"
}
