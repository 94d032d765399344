"""What every rank of a job in these tests begins with."""

from __future__ import annotations

PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from mooncake_mpi import MPI

def leave(*error):
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(1)  # the MPI library may not finish any more

sys.excepthook = leave
folder = Path(os.environ["FAULTS_FOLDER"])
comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

def caught(call, *args, **kwargs):
    "The class, the text and the time of the error that a call raises; None where it raises none."
    try:
        call(*args, **kwargs)
    except MPI.Exception as error:
        name = {MPI.ERR_PROC_FAILED: "PROC_FAILED", MPI.ERR_PROC_FAILED_PENDING: "PENDING",
                MPI.ERR_REVOKED: "REVOKED", MPI.ERR_IN_STATUS: "IN_STATUS"}
        return [name.get(error.Get_error_class(), str(error)), str(error), time.time()]
    return None

def tell(name, value=True):
    part = folder / f".{name}-{rank}"
    part.write_text(json.dumps(value))
    part.rename(folder / f"{name}-{rank}")

def meet(name, ranks, seconds=30):
    "Without MPI, which may not work any more."
    tell(name)
    deadline = time.monotonic() + seconds
    while not all((folder / f"{name}-{other}").exists() for other in ranks):
        if time.monotonic() > deadline:
            raise SystemExit(f"{rank} waited for {name} of {ranks} in vain")
        time.sleep(0.005)

def die(how=signal.SIGKILL):
    tell("died", time.time())
    if how == "segfault":
        import ctypes
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    os.kill(os.getpid(), how)
    time.sleep(60)

def end(survivors, **values):
    "Write down what happened, and leave without the MPI library when everybody has."
    tell("result", values)
    meet("end", survivors)
    (folder / "over").touch()
    os._exit(0)
"""

# MPICH's launcher kills the job when a rank dies of a signal, whatever it was told. It sees this
# shell instead, which stays until the survivors are done.
SHELTER = """
"$0" "$@"
turn=0
while [ ! -e "$FAULTS_FOLDER/over" ] && [ $turn -lt 600 ]; do sleep 0.1; turn=$((turn + 1)); done
"""
