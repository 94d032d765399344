#!/usr/bin/env bash
# Inside the lab: the engine's verbs lane and perftest by turns, on the same devices.
#
#   bench.sh LANE_BENCHMARK [ROUNDS]
#
# Prints a line for each measurement; the tables at the end have their medians, and those of the ratios
# within a round, which a host that changes its speed from minute to minute disturbs less.

set -u
engine=$1 rounds=${2:-5}
results=$(mktemp)

# perftest NAME COLUMN PROGRAM OPTIONS...: the server at end b of rail 0, the client at end a
perftest() {
  local name=$1 column=$2 program=$3 value server
  shift 3
  "$program" -F -d rxe0b "$@" >/dev/null 2>&1 &
  server=$!
  sleep 0.7
  value=$(timeout 60 "$program" -F -d rxe0a "$@" 10.9.0.2 2>/dev/null |
    awk -v column="$column" '$1 ~ /^[0-9]+$/ { value = $column } END { print value }')
  kill "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  record "$name" "$value"
}

lane() { # lane NAME RAILS OPTIONS...
  local name=$1 rails=$2 ours theirs value
  shift 2
  ours=rxe0a theirs=rxe0b
  if ((rails == 2)); then ours+=,rxe1a theirs+=,rxe1b; fi
  value=$(timeout 120 "$engine" "$@" --devices "$ours" --peer-devices "$theirs" |
    sed -nE 's/.*(trip|B:) ([0-9.]+) (us|MiB).*/\2/p')
  record "$name" "$value"
}

record() { # record NAME VALUE
  printf '%s\t%s\n' "$1" "${2:-failed}" | tee -a "$results"
}

# medians FILE: of each name's values, with the smallest and the largest
medians() {
  sort -t $'\t' -k 1,1 -k 2,2g "$1" | awk -F '\t' '
    function show() { if (count) printf "%-36s %10s   (%s to %s)\n", name, values[int((count + 1) / 2)], values[1], values[count] }
    $1 != name { show(); name = $1; count = 0 }
    { values[++count] = $2 }
    END { show() }'
}

for ((round = 0; round < rounds; ++round)); do
  perftest "8 B latency us, ib_send_lat" 5 ib_send_lat -s 8 -n 1000
  lane "8 B latency us, engine" 1 latency --bytes 8 --iterations 1000
  perftest "1 MiB MiB/s, ib_read_bw" 4 ib_read_bw -s 1048576 -n 64 -t 16
  lane "1 MiB MiB/s, engine" 1 bandwidth --bytes 1048576 --window 64 --iterations 1
  perftest "1 MiB MiB/s, ib_write_bw" 4 ib_write_bw -s 1048576 -n 64 -t 16
  lane "1 MiB MiB/s, engine on two rails" 2 bandwidth --bytes 1048576 --window 64 --iterations 1
done

printf '\nmedians of %s rounds\n' "$rounds"
medians "$results"

printf '\nratios within a round: above one, the engine is slower (of two rails: faster)\n'
awk -F '\t' '
  { value[$1, ++count[$1]] = $2 }
  function ratio(text, one, other, i) {
    for (i = 1; i <= count[one]; ++i)
      if (value[one, i] + 0 > 0 && value[other, i] + 0 > 0)  # not where it says: failed
        printf "%s\t%.2f\n", text, value[one, i] / value[other, i]
  }
  END {
    ratio("8 B latency, engine / ib_send_lat", "8 B latency us, engine", "8 B latency us, ib_send_lat")
    ratio("1 MiB, ib_read_bw / engine", "1 MiB MiB/s, ib_read_bw", "1 MiB MiB/s, engine")
    ratio("1 MiB, ib_write_bw / engine", "1 MiB MiB/s, ib_write_bw", "1 MiB MiB/s, engine")
    ratio("1 MiB, two rails / one", "1 MiB MiB/s, engine on two rails", "1 MiB MiB/s, engine")
  }' "$results" >"$results.ratios"
medians "$results.ratios"
