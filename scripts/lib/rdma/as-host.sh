#!/usr/bin/env bash
# Inside the lab: mpirun -n 2 as-host.sh RAILS COMMAND... runs each rank as a host of its own, even ranks at
# end a of the rails, odd ones at end b; for this project's lane, on one or two RAILS, and for UCX.

rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
if ((rank % 2)); then end=b; else end=a; fi
devices=rxe0$end
if (($1 == 2)); then devices+=,rxe1$end; fi
export MOONCAKE_MPI_HOST_ID=host-$rank MOONCAKE_MPI_LANES=self,verbs
export MOONCAKE_MPI_VERBS_DEVICES=$devices
# UCX would drop its datagrams, as it looks for the address where Soft-RoCE does not put it.
export UCX_NET_DEVICES=rxe0$end:1 UCX_IB_GID_INDEX=1 UCX_UD_ETH_DGID_CHECK=n
exec "${@:2}"
