"""What a process without the progress thread does not do."""

from __future__ import annotations

import pytest
from subject import MPI

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.without_thread]


def test_streams_that_nobody_would_let_go_are_not_made_to_wait(comm, made, stream):
    for call in (comm.Send_enqueue, comm.Recv_enqueue, comm.Isend_enqueue, comm.Irecv_enqueue):
        with pytest.raises(MPI.Exception, match="MOONCAKE_MPI_PROGRESS_THREAD"):
            call(made(8), comm.rank, 1, stream=stream.handle)
    assert stream.pending == 0
