"""Running a group's collective operations: in which order, in which thread, and what failure does.

Called in the program's threads; :mod:`.worker` keeps the operations in the order of their calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from mooncake_mpi.torch import errors, tensors
from mooncake_mpi.torch.calls import Call
from mooncake_mpi.torch.port import TensorPort
from mooncake_mpi.torch.side_streams import SideStreams
from mooncake_mpi.torch.staging import Staging
from mooncake_mpi.torch.words import Words
from mooncake_mpi.torch.worker import Worker
from mooncake_mpi.torch.works import CollectiveWork, JoinedWork, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi import _native
    from mooncake_mpi.torch.late_failures import LateFailures
    from mooncake_mpi.torch.worker import Operation

Tensors: TypeAlias = "Sequence[torch.Tensor]"
Schedule: TypeAlias = "Callable[[TensorPort], None]"

# How often words that nobody has waited for are taken out of the queue.
_HEAR_EVERY = 256


class Running:
    """Mixed into the group, which has a name and a timeout."""

    _id: str
    _timeout_ms: int
    _sequence: int
    _late: LateFailures

    def _start_collectives(self, communicator: _native.Communicator) -> None:
        self._collectives = communicator
        self._words = Words(communicator)
        self._staging = Staging()
        self._worker = Worker(f"mooncake_mpi {self._id}")
        self._side_streams = SideStreams()
        self._sequence = 0
        self._window: list[Any] | None = None
        self._broken: BaseException | None = None

    def _end_collectives(self) -> None:
        self._worker.close()

    def _abort_collectives(self) -> None:
        """Let what is under way fail, here alone."""
        if self._broken is None:
            self._broken = RuntimeError("aborted")
        self._words.aborted.set()

    def _check_open(self, name: str) -> None:
        raise NotImplementedError

    # --- running a schedule ---

    def _run(
        self,
        name: str,
        opts: Any,
        schedule: Schedule,
        inputs: Tensors,
        outputs: Tensors,
        alike: Tensors = (),
        numbers: tuple[int, ...] = (),
        typed: Tensors = (),
    ) -> CollectiveWork:
        """Run a schedule in its turn: here if the program waits for it, else in the thread.

        Args:
            name: of the operation.
            opts: torch's.
            schedule: what it does.
            inputs: tensors that it reads.
            outputs: tensors that it writes.
            alike: those whose sizes and types all ranks must have.
            numbers: what else all ranks must have.
            typed: those whose types all ranks must have.
        """
        self._check_open(name)
        self._late.raise_first()
        used = (*inputs, *outputs)
        for tensor in used:
            tensors.check(tensor, name)
        timeout_ms = milliseconds(getattr(opts, "timeout", None), self._timeout_ms)
        sequence = 0
        work = CollectiveWork(
            lambda: (name, self._id, f"operation {sequence}"), list(outputs or inputs)
        )

        types = tuple(tensor.dtype for tensor in typed)

        def operate() -> Callable[[], None] | None:
            call = Call(name, sequence, alike, numbers, types)
            return work._end(self._operate(call, schedule, timeout_ms, used))

        def operate_here() -> Callable[[], None] | None:
            tensors.settle(used)
            return operate()

        def take_turn(here: bool) -> Operation:
            nonlocal sequence
            self._sequence += 1
            sequence = self._sequence
            if here:
                return operate_here
            moments = tensors.moments(used)

            def operate_aside() -> Callable[[], None] | None:
                for moment in moments:
                    moment.synchronize()
                with self._side_streams.current_for(used):
                    return operate()

            return operate_aside

        self._worker.run(take_turn, wait=not getattr(opts, "asyncOp", True))
        if self._window is not None:
            self._window.append(work)
        return work

    def _operate(
        self, call: Call, schedule: Schedule, timeout_ms: int, used: Tensors
    ) -> Exception | None:
        where = f"operation {call.sequence}"
        if self._broken is not None:
            reason = str(self._broken) or type(self._broken).__name__
            return errors.failed(call.name, self._id, where, f"the group failed before: {reason}")
        if call.sequence % _HEAR_EVERY == 0:
            self._words.hear()
        port = TensorPort(self._collectives, call, timeout_ms, self._words)
        try:
            with torch.no_grad():
                schedule(port)
            tensors.settle(used)
        except Exception as error:  # noqa: BLE001 - raised by wait()
            why = self._fail(call, error, port) or error
            failure = self._broken = errors.failed(call.name, self._id, where, why)
            failure.__cause__ = error
            return failure
        except BaseException as interruption:  # of the program's thread, amid the messages
            self._broken = interruption
            self._fail(call, interruption, port)
            raise
        return None

    def _fail(self, call: Call, error: BaseException, port: TensorPort) -> str:
        """End an operation that failed: why, if not here; else that of the other ranks, too."""
        aborted = self._words.aborted.is_set()
        reason: str = "aborted" if aborted else self._words.reason(error)
        if not reason:
            self._words.tell(f"{call}: {str(error) or type(error).__name__}")
        port.abandon()
        if not aborted:
            # Also where another rank does: what is sent to this one is refused only from then on.
            self._words.fail()
        return reason

    def _start_coalescing(self, device: torch.device) -> None:  # noqa: ARG002 - one for all
        self._window = []

    def _end_coalescing(self, device: torch.device) -> JoinedWork:  # noqa: ARG002 - one for all
        works, self._window = self._window or [], None
        return JoinedWork(works)
