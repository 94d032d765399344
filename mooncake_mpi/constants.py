"""Numbers that the engine knows by name."""

from __future__ import annotations

#: How a message is sent, ``SendMode`` in native/engine/engine.h.
STANDARD, SYNCHRONOUS, READY, BUFFERED = range(4)

#: Channels of matching, ``MatchChannel`` in native/protocol/context.h: the program's messages, the
#: data of partitioned messages, what introduces these, and agreements. None matches another's.
MESSAGE_CHANNEL, DATA_CHANNEL, SETUP_CHANNEL, AGREEMENT_CHANNEL = range(4)
