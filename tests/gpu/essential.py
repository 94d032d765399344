"""What has to work before anything else is looked at: every kind of message, whole and in order."""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np
import object_checks  # noqa: F401 - run with the others
from exchanges import content, exchange, expect, filled, gpu, new, put, ring_of
from harness import MPI, RANK, LeftOut, check, left, library, main, meet, only, say
from payload import pattern

import mooncake_mpi

only(0, f"rank 0: {gpu.describe()}{'  STAND-IN, NO GPU' if gpu.is_stand_in else ''}")
meet()
only(1, f"rank 1: {gpu.describe()}")

PAIRS = [("gpu", "gpu"), ("gpu", "host"), ("host", "gpu")]
MIB = 1 << 20


@check
def one_small_message(comm):
    exchange(comm, 1000, "gpu", "gpu")


@check
def one_large_message(comm):
    exchange(comm, 8 * MIB, "gpu", "gpu")


@check
def one_large_message_of_the_pool_for_gpus(comm):
    right, left_rank = ring_of(comm)
    with mooncake_mpi.gpu_pool():
        out, into = filled(8 * MIB), new(8 * MIB)
    before = mooncake_mpi.transfers(comm)[left_rank].received.get("staged")
    comm.Sendrecv(out, right, 1, into, left_rank, 1)
    expect(into, left_rank)
    after = mooncake_mpi.transfers(comm)[left_rank]
    if "cuda_ipc" in (os.environ.get("MOONCAKE_MPI_LANES") or "cuda_ipc"):
        assert after.received.get("staged") == before, after.troubles


@check
def no_context_on_other_gpus(_comm):
    if gpu.is_stand_in and gpu.name == "torch":
        raise LeftOut("torch has no GPU here")
    driver = ctypes.CDLL(os.environ.get("MOONCAKE_MPI_CUDA_LIBRARY") or "libcuda.so.1")
    contexts = []
    for device in range(gpu.count):
        flags, active = ctypes.c_uint(), ctypes.c_int()
        code = driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        assert code == 0, code
        if active.value:
            contexts.append(device)
    assert contexts == [gpu.device], f"contexts on {contexts}, and this rank uses {gpu.device}"
    if gpu.count == 1:
        raise LeftOut("there is one GPU")


@check
def sizes_between_gpu_and_host(comm):
    sizes = [0, 1, 8, 100, 4096, 5001, 8192, 8193, (64 << 10) - 1, 64 << 10, (512 << 10) + 1]
    for size in [*sizes, MIB, (9 << 20) + 3, 64 * MIB]:
        for source, dest in PAIRS:
            exchange(comm, size, source, dest)


@check
def odd_offsets(comm):
    right, left_rank = ring_of(comm)
    for size in (1, 4099, 70_001, MIB + 7):
        for source, dest in PAIRS:
            for first in (1, 37):
                out, into = new(size + 100, source), new(size + 100, dest)
                put(out[first : first + size], pattern(size, RANK))
                request = comm.Isend(out[first : first + size], right, 1)
                comm.Recv(into[first + 3 : first + 3 + size], left_rank, 1)
                request.Wait()
                arrived = content(into)
                expect(arrived[first + 3 : first + 3 + size], left_rank, f"{source} -> {dest}")
                assert (arrived[: first + 3] == 255).all()
                assert (arrived[first + 3 + size :] == 255).all()


@check
def every_call(comm):
    right, left_rank = ring_of(comm)
    MPI.Attach_buffer(memory := bytearray(8 * MIB))
    for size in (40, 6000, 400_000, 3 * MIB):
        out, into = filled(size), new(size)

        def arrived(what, seed=left_rank):
            expect(into, seed, f"{what}, {size} B")
            put(into, np.full(size, 255, "u1"))

        for mode in ("Send", "Ssend", "Bsend", "Rsend"):
            receive = comm.Irecv(into, left_rank, 1)
            meet()
            getattr(comm, mode)(out, right, 1)
            receive.Wait()
            arrived(mode)
        for mode in ("Isend", "Issend", "Ibsend", "Irsend"):
            receive = comm.Irecv(into, left_rank, 1)
            meet()
            MPI.Request.Waitall([getattr(comm, mode)(out, right, 1), receive])
            arrived(mode)
        comm.Sendrecv(out, right, 2, into, left_rank, 2)
        arrived("Sendrecv")
        comm.Isendrecv(out, right, 2, into, left_rank, 2).Wait()
        arrived("Isendrecv")
        send, receive = comm.Send_init(out, right, 3), comm.Recv_init(into, left_rank, 3)
        for _ in range(3):
            MPI.Prequest.Startall([receive, send])
            MPI.Request.Waitall([send, receive])
            arrived("persistent")
        send.Free()
        receive.Free()
        send = comm.Isend(out, right, 4)
        status = MPI.Status()
        message = comm.Mprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == (left_rank, 4, size)
        message.Recv(into)
        send.Wait()
        arrived("Mprobe, Recv")
        send = comm.Isend(out, right, 4)
        comm.Mprobe(left_rank, 4).Irecv(into).Wait()
        send.Wait()
        arrived("Mprobe, Irecv")
        send = comm.Isend(out, right, 5)
        comm.Probe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        assert (status.source, status.tag) == (left_rank, 5)
        comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG)
        send.Wait()
        arrived("Probe and wildcards")
        put(into, pattern(size, RANK))
        comm.Sendrecv_replace(into, right, 6, left_rank, 6)
        arrived("Sendrecv_replace")
        for source, dest in PAIRS:  # to itself
            own = filled(size, source, 3)
            target = new(size, dest)
            request = comm.Isend(own, RANK, 7)
            comm.Recv(target, RANK, 7)
            request.Wait()
            expect(target, 3, f"to itself, {source} -> {dest}, {size} B")
    MPI.Detach_buffer()
    del memory


@check
def order_and_wildcards(comm):
    right, left_rank = ring_of(comm)
    sizes = [(i * 37) % 3000 + (200_000 if i % 50 == 25 else 0) for i in range(500)]
    for source, dest in PAIRS:
        out, into = filled(max(sizes), source), new(max(sizes), dest)
        status, arrived = MPI.Status(), []
        for first in range(0, 500, 50):
            sends = [
                comm.Isend(out[:size], right, i) for i, size in enumerate(sizes[first : first + 50])
            ]
            for tag in range(50):
                comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
                assert (status.source, status.tag) == (left_rank, tag)
                arrived.append(status.Get_count(MPI.BYTE))
            MPI.Request.Waitall(sends)
        assert arrived == sizes
        expect(content(into)[: sizes[-1]], left_rank)


@check
def thousands_in_flight_keep_their_contents(comm):
    right, left_rank = ring_of(comm)
    count, size = 2000, 4096
    out, into = new(count * size), new(count * size)
    put(out, pattern(count * size, RANK))
    receives = [comm.Irecv(into[i * size : (i + 1) * size], left_rank, i) for i in range(count)]
    sends = [comm.Isend(out[i * size : (i + 1) * size], right, i) for i in reversed(range(count))]
    MPI.Request.Waitall(sends + receives)
    expect(into, left_rank)


@check
def truncation(comm):
    right, left_rank = ring_of(comm)
    for size in (40, 5000, 300_000, 2 * MIB):
        for source, dest in PAIRS:
            whole = new(size, dest)
            out = filled(size, source)
            send = comm.Isend(out, right, 1)
            receive = comm.Irecv(whole[: size // 2], left_rank, 1)
            try:
                receive.Wait()
            except MPI.Exception as error:
                assert error.Get_error_class() == MPI.ERR_TRUNCATE, error
            else:
                raise AssertionError("it was not refused")
            send.Wait()
            expect(content(whole)[: size // 2], left_rank, f"{source} -> {dest}")
            assert (content(whole)[size // 2 :] == 255).all()


@check
def a_send_waits_for_the_kernels_before_it(comm):
    right, left_rank = ring_of(comm)
    stream = gpu.stream()
    for size in (8, 5000, 400_000, 3 * MIB):
        for turn, start in enumerate(("Isend", "Issend", "Send")):
            new_values = filled(size, seed=RANK + turn)
            out, into = new(size, value=0), new(size)
            receive = comm.Irecv(into, left_rank, 1)
            meet()
            with gpu.using(stream):
                gpu.delay(0.02)
                gpu.copy(out, new_values)
                request = getattr(comm, start)(out, right, 1)
            if request is not None:
                request.Wait()
            receive.Wait()
            expect(into, left_rank + turn, f"{start}, {size} B")


@check
def a_call_does_not_wait_for_the_stream(comm):
    right, left_rank = ring_of(comm)
    stream = gpu.stream()
    out, into = filled(MIB), new(MIB)
    with gpu.using(stream):  # not the first launch of the kernel
        gpu.delay(0.001)
    stream.synchronize()
    receive = comm.Irecv(into, left_rank, 1)
    meet()
    started = time.perf_counter()
    with gpu.using(stream):
        gpu.delay(0.5)
        request = comm.Isend(out, right, 1)
    took = time.perf_counter() - started
    assert not request.Test()
    MPI.Request.Waitall([request, receive])
    whole = time.perf_counter() - started
    expect(into, left_rank)
    assert took < 0.25, f"Isend took {took:.3f} s of the {whole:.3f} s"
    assert whole > 0.4, f"it was over within {whole:.3f} s"


@check
def a_receive_waits_for_the_kernels_that_read(comm):
    right, left_rank = ring_of(comm)
    stream = gpu.stream()
    for size in (8, 5000, 400_000, 3 * MIB):
        for source in ("gpu", "host"):
            out, into, kept = filled(size, source), new(size, value=7), new(size, value=0)
            meet()
            with gpu.using(stream):
                gpu.delay(0.02)
                gpu.copy(kept, into)
                receive = comm.Irecv(into, left_rank, 1)
            send = comm.Isend(out, right, 1)
            MPI.Request.Waitall([send, receive])
            stream.synchronize()
            assert (content(kept) == 7).all(), f"{size} B from the {source}: written too early"
            expect(into, left_rank)


@check
def memory_that_is_freed_and_made_again_at_its_address(comm):
    right, left_rank = ring_of(comm)
    size, addresses, turns = 4 * MIB, set(), 200
    with gpu.straight():
        for turn in range(turns):
            if left() < 5:
                only(0, f"  {turn} turns only: no time is left")
                turns = turn
            if meet(int(turn >= turns)):
                break
            out, into = gpu.empty(size), gpu.empty(size)
            values = pattern(size, RANK + turn)
            gpu.put(out, values)
            gpu.put(into, values[::-1])
            address = getattr(out, "data_ptr", None)
            addresses.add(address() if address else out.data.ptr)
            send = comm.Isend(out, right, 1)
            comm.Recv(into, left_rank, 1)
            send.Wait()
            expect(into, left_rank + turn, f"turn {turn}")
            del out, into, send
            gpu.free_all()
    only(0, f"  at {len(addresses)} different addresses")


@check
def memory_of_a_pool_of_the_driver(comm):
    with gpu.pooled():
        for size in (8, 5000, 400_000, (9 << 20) + 3):
            for source, dest in PAIRS:
                exchange(comm, size, source, dest, "pool")
    right, left_rank = ring_of(comm)
    with gpu.pooled():
        pooled = filled(3 * MIB)
    into = new(3 * MIB)
    comm.Sendrecv(pooled, right, 1, into, left_rank, 1)
    expect(into, left_rank, "from a pool")
    comm.Sendrecv(into, left_rank, 1, pooled, right, 1)
    expect(pooled, RANK, "into a pool")


@check
def messages_between_all_gpus(comm):
    if gpu.name != "cupy" or gpu.count < 2:
        raise LeftOut("one GPU, or not by CuPy")
    right, left_rank = ring_of(comm)
    for source in range(gpu.count):
        for dest in range(gpu.count):
            for size in (8, 70_001, 3 * MIB):
                with gpu.cupy.cuda.Device(source):
                    out = filled(size)
                with gpu.cupy.cuda.Device(dest):
                    into = new(size)
                comm.Sendrecv(out, right, 1, into, left_rank, 1)
                expect(into, left_rank, f"GPU {source} -> {dest}")


@check
def a_collective_of_the_library_is_refused(comm):
    if gpu.is_stand_in and gpu.name == "torch":
        raise LeftOut("torch has no GPU here")
    array = gpu.empty(16, "f8")
    gpu.put(array, np.zeros(16))
    try:
        comm.Allreduce(MPI.IN_PLACE, array)
    except RuntimeError as error:
        assert "CUDA-aware" in str(error), error
    else:
        raise LeftOut(f"the library takes it: {library.Get_library_version()[:40]}")


@check
def waiting_and_idling_use_little_of_a_core(comm):
    right, left_rank = ring_of(comm)
    exchange(comm, MIB, "gpu", "gpu")
    meet()
    before = time.process_time()
    time.sleep(0.5)
    idle = time.process_time() - before
    into = new(MIB)
    before = time.process_time()
    if RANK == 0:
        time.sleep(0.5)
        comm.Send(filled(MIB), right, 1)
    elif RANK == 1:
        comm.Recv(into, left_rank, 1)
    waiting = time.process_time() - before
    say(f"  rank {RANK}: idle {idle * 200:.0f} %, in a call {waiting * 200:.0f} % of a core")
    assert idle < 0.05
    if RANK == 1:
        assert waiting < 0.3


main()
