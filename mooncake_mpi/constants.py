"""The engine's send modes and channels, by the package's names."""

from __future__ import annotations

from mooncake_mpi._native import MatchChannel, SendMode

#: How a message is sent.
STANDARD, SYNCHRONOUS, READY, BUFFERED = SendMode

#: Channels of matching: the program's messages, the data of partitioned messages, what introduces
#: these, and agreements. None matches another's.
MESSAGE_CHANNEL, PARTITION_DATA, PARTITION_SETUP, AGREEMENT_CHANNEL, OBJECT_ARRAYS = MatchChannel
