"""A queue pair driven by pyverbs, so by none of this project's code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyverbs import enums
from pyverbs.addr import GID, AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

if TYPE_CHECKING:
    from mpi4py import MPI

PORT = 1
REMOTE = enums.IBV_ACCESS_LOCAL_WRITE | enums.IBV_ACCESS_REMOTE_WRITE | enums.IBV_ACCESS_REMOTE_READ
ROCE_V2 = 2
SUCCESS = enums.IBV_WC_SUCCESS


@dataclass(frozen=True)
class Address:
    """What the other side needs to know of a queue pair and its memory."""

    number: int
    gid: str
    lid: int
    packet_number: int
    memory: int
    rkey: int


def gid_index(context: Context) -> int:
    """The first RoCE v2 address that IPv4 routes, else the first entry."""
    entries = context.query_gid_table(64)
    for entry in entries:
        address = str(context.query_gid(PORT, entry.gid_index).gid)
        if entry.port_num == PORT and entry.gid_type == ROCE_V2 and ":ffff:" in address:
            return entry.gid_index
    return 0


class QueuePair:
    """A reliable connection with memory and a completion queue of its own."""

    def __init__(self, device: str, size: int = 1 << 16, packet_number: int = 77) -> None:
        self.context = Context(name=device)
        self.domain = PD(self.context)
        self.completions = CQ(self.context, 64)
        capacity = QPCap(max_send_wr=16, max_recv_wr=16, max_send_sge=1, max_recv_sge=1)
        self.pair = QP(
            self.domain,
            QPInitAttr(
                qp_type=enums.IBV_QPT_RC,
                scq=self.completions,
                rcq=self.completions,
                cap=capacity,
            ),
        )
        self.memory = MR(self.domain, size, REMOTE)
        self.size = size
        self.packet_number = packet_number
        self._gid_index = gid_index(self.context)

    def address(self) -> Address:
        """For the other side."""
        return Address(
            self.pair.qp_num,
            str(self.context.query_gid(PORT, self._gid_index).gid),
            self.context.query_port(PORT).lid,
            self.packet_number,
            self.memory.buf,
            self.memory.rkey,
        )

    def connect(self, peer: Address) -> None:
        """From RESET to ready to send."""
        attributes = QPAttr(port_num=PORT)
        attributes.qp_access_flags = REMOTE
        attributes.dest_qp_num = peer.number
        attributes.path_mtu = enums.IBV_MTU_1024
        attributes.rq_psn = peer.packet_number
        attributes.sq_psn = self.packet_number
        attributes.max_rd_atomic = attributes.max_dest_rd_atomic = 4
        attributes.min_rnr_timer = 12
        attributes.timeout = 16
        attributes.retry_cnt = 5  # RXE takes 7 for "for ever"
        attributes.rnr_retry = 5
        route = GlobalRoute(dgid=GID(peer.gid), sgid_index=self._gid_index)
        attributes.ah_attr = AHAttr(gr=route, is_global=1, dlid=peer.lid, port_num=PORT)
        self.pair.to_rts(attributes)

    def receive(self, size: int) -> None:
        """Post a receive into the start of the memory."""
        element = SGE(self.memory.buf, size, self.memory.lkey)
        self.pair.post_recv(RecvWR(sg=[element], num_sge=1))

    def post(self, opcode: int, size: int, peer: Address | None = None, *, rkey: int = 0) -> None:
        """Post an operation on the start of the memory, and of the peer's memory."""
        element = SGE(self.memory.buf, size, self.memory.lkey)
        request = SendWR(opcode=opcode, num_sge=1, sg=[element], send_flags=enums.IBV_SEND_SIGNALED)
        if peer is not None:
            request.set_wr_rdma(rkey or peer.rkey, peer.memory)
        self.pair.post_send(request)

    def completion(self, timeout: float = 60.0) -> int:
        """Wait for the next completion; its status."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            count, entries = self.completions.poll()
            if count:
                return entries[0].status
            time.sleep(1e-3)
        raise TimeoutError(f"no completion in {timeout:g} s")

    def close(self) -> None:
        """Give everything back, in the order that verbs asks for."""
        for owned in (self.pair, self.memory, self.completions, self.domain, self.context):
            owned.close()


def exchange(comm: MPI.Intracomm, pair: QueuePair, other: int) -> Address:
    """Swap addresses with another rank over the MPI library, and connect."""
    peer = comm.sendrecv(pair.address(), other, source=other)
    pair.connect(peer)
    comm.sendrecv(None, other, source=other)
    return peer
