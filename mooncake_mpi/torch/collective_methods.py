"""The collective methods of a group: torch's tensors and options made a schedule's parts.

Called in the program's threads; :mod:`.worker` keeps the operations in the order of their calls.
"""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch.distributed import ReduceOp

from mooncake_mpi.collectives.all_gather import all_gather
from mooncake_mpi.collectives.all_reduce import all_reduce
from mooncake_mpi.collectives.all_to_all import all_to_all
from mooncake_mpi.collectives.barrier import barrier, monitored_barrier
from mooncake_mpi.collectives.broadcast import broadcast
from mooncake_mpi.collectives.gather import gather
from mooncake_mpi.collectives.reduce import reduce
from mooncake_mpi.collectives.reduce_scatter import reduce_scatter
from mooncake_mpi.collectives.scatter import scatter
from mooncake_mpi.torch import tensors
from mooncake_mpi.torch.reductions import Reduction, reduction_of
from mooncake_mpi.torch.running import Running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import torch

    from mooncake_mpi.torch.port import TensorPort
    from mooncake_mpi.torch.running import Tensors
    from mooncake_mpi.torch.works import CollectiveWork


class CollectiveMethods(Running):
    """Mixed into the group; the names are those that torch calls."""

    def barrier(self, opts: Any = None) -> CollectiveWork:
        """Wait for all ranks."""
        return self._run("barrier", opts, barrier, (), ())

    def monitored_barrier(
        self,
        timeout: timedelta | None = None,
        wait_all_ranks: bool = False,  # noqa: ARG002 - all are named
    ) -> None:
        """Wait for all ranks; at rank 0 the error names all that have not come in time."""
        opts = SimpleNamespace(timeout=timeout, asyncOp=False)
        self._run("monitored_barrier", opts, monitored_barrier, (), ()).wait()

    def barrier_of_own(self) -> None:
        """Wait until the operations that were called before have run; local."""
        done = Event()
        self._worker.run(lambda _here: done.set, wait=True)
        done.wait()

    def broadcast(self, given: Tensors, opts: Any) -> CollectiveWork:
        """Give all ranks the root's tensor."""
        (tensor,) = given
        root = self._root("broadcast", opts)

        def schedule(port: TensorPort) -> None:
            flat = tensors.source(tensor) if port.rank == root else tensors.sink(tensor)
            broadcast(port, flat, root)
            if port.rank != root:
                tensors.copy_back(tensor, flat)

        return self._run("broadcast", opts, schedule, (), given, given, (root,))

    def allreduce(self, given: Tensors, opts: Any = None) -> CollectiveWork:
        """Reduce over all ranks, in place."""
        (tensor,) = given
        return self.allreduce_coalesced((tensor,), opts)

    def allreduce_coalesced(self, given: Tensors, opts: Any = None) -> CollectiveWork:
        """Reduce each tensor over all ranks, in place."""
        reductions = [self._reduction(tensor, opts) for tensor in given]

        def schedule(port: TensorPort) -> None:
            for tensor, reduction in zip(given, reductions, strict=True):
                flat = tensors.source(tensor)

                def reduce_all(part: torch.Tensor, reduction: Reduction = reduction) -> None:
                    _prepare(reduction, part)
                    all_reduce(port, part, reduction.combine)
                    _finish(reduction, part)

                self._staging.run(flat, reduce_all)
                tensors.copy_back(tensor, flat)

        return self._run("all_reduce", opts, schedule, (), given, given, _numbers(reductions))

    def reduce(self, given: Tensors, opts: Any) -> CollectiveWork:
        """Reduce over all ranks, at the root in place."""
        (tensor,) = given
        root, reduction = self._root("reduce", opts), self._reduction(tensor, opts)

        def schedule(port: TensorPort) -> None:
            flat = tensors.source(tensor)
            if port.rank != root:
                flat = flat.clone()  # the program's stays

            def reduce_to_root(part: torch.Tensor) -> None:
                _prepare(reduction, part)
                reduce(port, part, reduction.combine, root)
                if port.rank == root:
                    _finish(reduction, part)

            self._staging.run(flat, reduce_to_root)
            if port.rank == root:
                tensors.copy_back(tensor, flat)

        return self._run("reduce", opts, schedule, (), given, given, (root, reduction.number))

    def allgather(
        self, output_lists: Sequence[Tensors], inputs: Tensors, opts: Any = None
    ) -> CollectiveWork:
        """Give all ranks the tensors of all."""
        for outputs in output_lists:
            self._check_count("all_gather", outputs)

        def schedule(port: TensorPort) -> None:
            for outputs, tensor in zip(output_lists, inputs, strict=True):
                parts = [tensors.sink(output) for output in outputs]
                all_gather(port, parts, tensors.source(tensor))
                for output, part in zip(outputs, parts, strict=True):
                    tensors.copy_back(output, part)

        every = [output for outputs in output_lists for output in outputs]
        return self._run("all_gather", opts, schedule, inputs, every, typed=inputs)

    def allgather_coalesced(
        self, output_lists: Sequence[Tensors], inputs: Tensors, opts: Any = None
    ) -> CollectiveWork:
        """As several :meth:`allgather`: the lists are by rank, each of one tensor an input."""
        return self.allgather(
            [list(of_one) for of_one in zip(*output_lists, strict=True)], inputs, opts
        )

    def all_gather_single(
        self, output: torch.Tensor, given: torch.Tensor, opts: Any = None
    ) -> CollectiveWork:
        """Give all ranks the tensors of all, one behind the other."""
        return self.all_gather_single_coalesced((output,), (given,), opts)

    def all_gather_single_coalesced(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None
    ) -> CollectiveWork:
        """As several :meth:`all_gather_single`."""
        for output, tensor in zip(outputs, inputs, strict=True):
            self._check_shares("all_gather", output, tensor)

        def schedule(port: TensorPort) -> None:
            for output, tensor in zip(outputs, inputs, strict=True):
                flat = tensors.sink(output)
                parts = list(flat.split(tensor.numel())) if tensor.numel() else [flat] * port.size
                all_gather(port, parts, tensors.source(tensor))
                tensors.copy_back(output, flat)

        return self._run("all_gather", opts, schedule, inputs, outputs, inputs)

    _allgather_base = all_gather_single
    allgather_into_tensor_coalesced = all_gather_single_coalesced

    def reduce_scatter(
        self, outputs: Tensors, input_lists: Sequence[Tensors], opts: Any = None
    ) -> CollectiveWork:
        """Reduce lists over all ranks, and give each its part."""
        for inputs in input_lists:
            self._check_count("reduce_scatter", inputs)
        reductions = [self._reduction(output, opts) for output in outputs]

        def schedule(port: TensorPort) -> None:
            for output, inputs, reduction in zip(outputs, input_lists, reductions, strict=True):
                _reduce_scatter(port, output, [tensors.source(one) for one in inputs], reduction)

        every = [tensor for inputs in input_lists for tensor in inputs]
        return self._run(
            *("reduce_scatter", opts, schedule, every, outputs),
            numbers=_numbers(reductions),
            typed=outputs,
        )

    def reduce_scatter_single(
        self, output: torch.Tensor, given: torch.Tensor, opts: Any = None
    ) -> CollectiveWork:
        """Reduce a tensor over all ranks, and give each its part."""
        return self.reduce_scatter_single_coalesced((output,), (given,), opts)

    def reduce_scatter_single_coalesced(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None
    ) -> CollectiveWork:
        """As several :meth:`reduce_scatter_single`."""
        for output, tensor in zip(outputs, inputs, strict=True):
            self._check_shares("reduce_scatter", tensor, output)
        reductions = [self._reduction(output, opts) for output in outputs]

        def schedule(port: TensorPort) -> None:
            for output, tensor, reduction in zip(outputs, inputs, reductions, strict=True):
                flat, length = tensors.source(tensor), output.numel()
                parts = list(flat.split(length)) if length else [flat] * port.size
                _reduce_scatter(port, output, parts, reduction)

        return self._run(
            "reduce_scatter", opts, schedule, inputs, outputs, outputs, _numbers(reductions)
        )

    _reduce_scatter_base = reduce_scatter_single
    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced

    def gather(self, output_lists: Sequence[Tensors], inputs: Tensors, opts: Any) -> CollectiveWork:
        """Give the root the tensors of all."""
        (tensor,) = inputs
        root = self._root("gather", opts)
        outputs = list(output_lists[0]) if output_lists else []
        if self._collectives.rank == root:
            self._check_count("gather", outputs)

        def schedule(port: TensorPort) -> None:
            parts = [tensors.sink(output) for output in outputs]
            gather(port, parts, tensors.source(tensor), root)
            for output, part in zip(outputs, parts, strict=True):
                tensors.copy_back(output, part)

        return self._run("gather", opts, schedule, inputs, outputs, (), (root,), inputs)

    def gather_single(self, output: torch.Tensor, given: torch.Tensor, opts: Any) -> CollectiveWork:
        """Give the root the tensors of all, one behind the other."""
        root = self._root("gather", opts)
        is_root = self._collectives.rank == root
        if is_root:
            self._check_shares("gather", output, given)

        def schedule(port: TensorPort) -> None:
            if not is_root:
                gather(port, (), tensors.source(given), root)
                return
            flat = tensors.sink(output)
            parts = list(flat.split(given.numel())) if given.numel() else [flat] * port.size
            gather(port, parts, tensors.source(given), root)
            tensors.copy_back(output, flat)

        outputs = (output,) if is_root else ()
        return self._run("gather", opts, schedule, (given,), outputs, (given,), (root,))

    gather_into_tensor = gather_single

    def scatter(
        self, outputs: Tensors, input_lists: Sequence[Tensors], opts: Any
    ) -> CollectiveWork:
        """Give each rank its tensor of the root's."""
        (tensor,) = outputs
        root = self._root("scatter", opts)
        inputs = list(input_lists[0]) if input_lists else []
        if self._collectives.rank == root:
            self._check_count("scatter", inputs)

        def schedule(port: TensorPort) -> None:
            flat = tensors.sink(tensor)
            scatter(port, flat, [tensors.source(one) for one in inputs], root)
            tensors.copy_back(tensor, flat)

        return self._run("scatter", opts, schedule, inputs, outputs, (), (root,), outputs)

    def alltoall(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> CollectiveWork:
        """Give each rank one tensor of every rank."""
        self._check_count("all_to_all", outputs)
        self._check_count("all_to_all", inputs)

        def schedule(port: TensorPort) -> None:
            parts = [tensors.sink(output) for output in outputs]
            all_to_all(port, parts, [tensors.source(one) for one in inputs])
            for output, part in zip(outputs, parts, strict=True):
                tensors.copy_back(output, part)

        return self._run("all_to_all", opts, schedule, inputs, outputs, typed=inputs[:1])

    def all_to_all_single(
        self,
        output: torch.Tensor,
        given: torch.Tensor,
        output_split_sizes: Sequence[int] = (),
        input_split_sizes: Sequence[int] = (),
        opts: Any = None,
    ) -> CollectiveWork:
        """Give each rank some rows of every rank's tensor."""
        into_sizes = self._sizes(output, output_split_sizes)
        from_sizes = self._sizes(given, input_split_sizes)

        def schedule(port: TensorPort) -> None:
            flat = tensors.sink(output)
            parts = list(tensors.source(given).split(from_sizes))
            all_to_all(port, list(flat.split(into_sizes)), parts)
            tensors.copy_back(output, flat)

        return self._run("all_to_all", opts, schedule, (given,), (output,), typed=(given,))

    alltoall_base = all_to_all_single

    # --- checks ---

    def _reduction(self, tensor: torch.Tensor, opts: Any) -> Reduction:
        given = ReduceOp.SUM if opts is None else opts.reduceOp
        return reduction_of(given, tensor.dtype, tensor.device.type, self._collectives.size)

    def _root(self, name: str, opts: Any) -> int:
        root, size = int(opts.rootRank), self._collectives.size
        if not 0 <= root < size:
            raise ValueError(
                f"mooncake_mpi: {name}: group {self._id!r} has no rank {root}, its size is {size}"
            )
        return root

    def _check_count(self, name: str, given: Tensors) -> None:
        if len(given) != self._collectives.size:
            raise ValueError(
                f"mooncake_mpi: {name}: {len(given)} tensors for {self._collectives.size} ranks"
            )

    def _check_shares(self, name: str, whole: torch.Tensor, share: torch.Tensor) -> None:
        if whole.dtype != share.dtype or whole.numel() != share.numel() * self._collectives.size:
            raise ValueError(
                f"mooncake_mpi: {name}: {whole.numel()} elements of {whole.dtype} are not "
                f"{self._collectives.size} times {share.numel()} of {share.dtype}"
            )

    def _sizes(self, tensor: torch.Tensor, rows: Sequence[int]) -> list[int]:
        """The number of elements for each rank, from the numbers of rows."""
        size = self._collectives.size
        length = tensor.shape[0] if tensor.dim() else 0
        if not rows:
            rows = [length // size] * size
        if len(rows) != size or sum(rows) != length or min(rows) < 0:
            raise ValueError(
                f"mooncake_mpi: all_to_all: {length} rows cannot be split as {list(rows)} "
                f"over {size} ranks"
            )
        row = tensor.numel() // length if length else 0
        return [count * row for count in rows]


def _numbers(reductions: Sequence[Reduction]) -> tuple[int, ...]:
    return (reductions[0].number,) if reductions else ()


def _reduce_scatter(
    port: TensorPort, output: torch.Tensor, parts: list[torch.Tensor], reduction: Reduction
) -> None:
    if reduction.prepare is not None:
        parts = [part.clone() for part in parts]  # the program's stay
        for part in parts:
            reduction.prepare(part)
    flat = tensors.sink(output)
    reduce_scatter(port, flat, parts, reduction.combine)
    _finish(reduction, flat)
    tensors.copy_back(output, flat)


def _prepare(reduction: Reduction, flat: torch.Tensor) -> None:
    if reduction.prepare is not None:
        reduction.prepare(flat)


def _finish(reduction: Reduction, flat: torch.Tensor) -> None:
    if reduction.finish is not None:
        reduction.finish(flat)
