"""Collective operations as schedules of point-to-point messages, a file an operation.

Called in the thread that runs the operation, no lock of its own. What messages travel through, and
what allocates and copies memory, is a :class:`.port.Port`; reductions are handed in.
"""
