"""A queue pair driven by pyverbs, so by none of this project's code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pyverbs import enums
from pyverbs.addr import AH, GID, AHAttr, GlobalRoute
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
OPERATION = 1 << 62  # in the id of what is no receive

_T = TypeVar("_T")


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
    for entry in context.query_gid_table(64):
        address = str(context.query_gid(PORT, entry.gid_index).gid)
        if entry.port_num == PORT and entry.gid_type == ROCE_V2 and ":ffff:" in address:
            return entry.gid_index
    return 0


class QueuePair:
    """Reliably connected, or with `queue_key` for datagrams, with memory and a completion queue."""

    def __init__(
        self,
        device: str,
        size: int = 1 << 16,
        packet_number: int = 77,
        *,
        queue_key: int | None = None,
    ) -> None:
        self.context = Context(name=device)
        self.domain = PD(self.context)
        self.completions = CQ(self.context, 256)
        capacity = QPCap(max_send_wr=64, max_recv_wr=64, max_send_sge=1, max_recv_sge=1)
        kind = enums.IBV_QPT_RC if queue_key is None else enums.IBV_QPT_UD
        self.pair = QP(
            self.domain,
            QPInitAttr(qp_type=kind, scq=self.completions, rcq=self.completions, cap=capacity),
        )
        self.memory = MR(self.domain, size, REMOTE)
        self.packet_number = packet_number
        self._gid_index = gid_index(self.context)
        self.arrived: list[tuple[int, int]] = []
        self._done: list[int] = []
        if queue_key is not None:
            attributes = QPAttr(port_num=PORT)
            attributes.qkey = queue_key
            self.pair.to_rts(attributes)

    @property
    def mtu(self) -> int:
        """The port's active MTU, bytes."""
        return 128 << self.context.query_port(PORT).active_mtu

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

    def _route(self, gid: str, lid: int) -> AHAttr:
        route = GlobalRoute(dgid=GID(gid), sgid_index=self._gid_index)
        return AHAttr(gr=route, is_global=1, dlid=lid, port_num=PORT)

    def connect(self, peer: Address, mtu: int = 1024) -> None:
        """From RESET to ready to send."""
        attributes = QPAttr(port_num=PORT)
        attributes.qp_access_flags = REMOTE
        attributes.dest_qp_num = peer.number
        attributes.path_mtu = (mtu // 128).bit_length() - 1
        attributes.rq_psn = peer.packet_number
        attributes.sq_psn = self.packet_number
        attributes.max_rd_atomic = attributes.max_dest_rd_atomic = 8
        attributes.min_rnr_timer = 12
        attributes.timeout = 16
        attributes.retry_cnt = 5  # RXE takes 7 for "for ever"
        attributes.rnr_retry = 5
        attributes.ah_attr = self._route(peer.gid, peer.lid)
        self.pair.to_rts(attributes)

    def receive(self, size: int, at: int = 0) -> None:
        """Post a receive into the memory; its completion tells the offset."""
        element = SGE(self.memory.buf + at, size, self.memory.lkey)
        self.pair.post_recv(RecvWR(wr_id=at, sg=[element], num_sge=1))

    def post(
        self,
        opcode: int,
        size: int,
        peer: Address | None = None,
        *,
        at: int = 0,
        remote: tuple[int, int] | None = None,
    ) -> None:
        """Post an operation on the memory from `at` on.

        `remote` is the address and key of the peer's memory, by default those of its own address.
        """
        element = SGE(self.memory.buf + at, size, self.memory.lkey)
        request = SendWR(
            wr_id=OPERATION,
            opcode=opcode,
            num_sge=1,
            sg=[element],
            send_flags=enums.IBV_SEND_SIGNALED,
        )
        if remote is None and peer is not None:
            remote = peer.memory, peer.rkey
        if remote is not None:
            request.set_wr_rdma(remote[1], remote[0])
        self.pair.post_send(request)

    def post_datagram(self, size: int, at: int, peer: Address, queue_key: int) -> None:
        """Send a datagram out of the memory."""
        element = SGE(self.memory.buf + at, size, self.memory.lkey)
        request = SendWR(
            wr_id=OPERATION,
            opcode=enums.IBV_WR_SEND,
            num_sge=1,
            sg=[element],
            send_flags=enums.IBV_SEND_SIGNALED,
        )
        handle = AH(self.domain, attr=self._route(peer.gid, peer.lid))
        request.set_wr_ud(handle, peer.number, queue_key)
        self.pair.post_send(request)
        assert self.completion() == SUCCESS
        handle.close()

    def completion(self, timeout: float = 60.0) -> int:
        """Wait until an operation that was posted is over; its status."""
        return self._wait(self._done, timeout)

    def arrival(self, timeout: float = 60.0) -> tuple[int, int]:
        """Wait until a receive is filled; where it is in the memory, and the bytes."""
        return self._wait(self.arrived, timeout)

    def _wait(self, queue: list[_T], timeout: float) -> _T:
        deadline = time.monotonic() + timeout
        while not queue:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no completion in {timeout:g} s")
            if not self.poll():
                time.sleep(1e-3)
        return queue.pop(0)

    def poll(self) -> int:
        """Take what has completed from the queue; how much."""
        count, entries = self.completions.poll(16)
        # the opcode of an operation that failed is undefined, the id is not
        for entry in entries[:count] if count else []:
            if entry.wr_id & OPERATION:
                self._done.append(entry.status)
            elif entry.status == SUCCESS:
                self.arrived.append((entry.wr_id, entry.byte_len))
        return count

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
