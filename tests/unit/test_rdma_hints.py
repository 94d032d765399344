"""What ``doctor`` says of RDMA, without any device."""

from __future__ import annotations

import os
import resource

import pytest

from mooncake_mpi.cli import rdma


def port(**changes):
    return {
        "device": "mlx5_0",
        "port": 1,
        "state": "active",
        "mtu_bytes": 4096,
        "trouble": "",
        "waits": False,
        **changes,
    }


def test_ports_that_are_used_and_those_left_out_on_purpose_are_no_news():
    left_out = port(trouble="not among the chosen devices")
    assert list(rdma.port_hints([port(), left_out])) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trouble": "no GID: has its network interface an address?"}, "no GID"),
        ({"waits": True, "state": "down"}, "is down; it is used once it is up"),
        ({"trouble": "four other ports are used"}, "four other ports"),
        ({"trouble": "ibv_open_device: Permission denied"}, "Permission denied"),
    ],
)
def test_a_port_that_is_not_used_is_named_with_the_reason(changes, told):
    (line,) = rdma.port_hints([port(), port(device="mlx5_1", **changes)])
    assert "mlx5_1:1" in line
    assert told in line


def test_ports_of_different_mtu_are_named():
    assert list(rdma.mtu_hints([[("a:1", 4096)], [("b:1", 4096)]])) == []
    assert list(rdma.mtu_hints([[], []])) == []
    (line,) = rdma.mtu_hints([[("a:1", 4096)], [("b:1", 1024), ("b:2", 4096)]])
    assert "1024 at b:1 of rank 1" in line
    assert "a:1" not in line


def test_devices_that_may_not_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(rdma, "DEVICES", tmp_path)
    (line,) = rdma.device_hints()
    assert "--device" in line
    (tmp_path / "uverbs0").touch()
    assert list(rdma.device_hints()) == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    (line,) = rdma.device_hints()
    assert "no permission" in line
    assert "uverbs0" in line


def test_too_little_memory_that_may_be_locked(tmp_path, monkeypatch):
    limits = {resource.RLIMIT_MEMLOCK: (64 << 10, 64 << 10)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    status = tmp_path / "status"
    monkeypatch.setattr(rdma, "_STATUS", status)
    status.write_text("Name:\tx\nCapEff:\t0000000000000000\n")
    (line,) = rdma.memory_hints()
    assert "64 KiB" in line
    status.write_text("CapEff:\t000001ffffffffff\n")
    assert list(rdma.memory_hints()) == []
    status.write_text("CapEff:\t0000000000000000\n")
    limits[resource.RLIMIT_MEMLOCK] = (resource.RLIM_INFINITY,) * 2
    assert list(rdma.memory_hints()) == []


def test_a_port_that_does_not_reach_a_rank_is_named_after_a_while(monkeypatch):
    from mooncake_mpi import _native

    answers = {1: iter([["x:1: no answer"]] + [[]] * 9), 2: iter([["y:1: no answer"]] * 1000)}
    monkeypatch.setattr(_native, "path_troubles", lambda _, rank: next(answers[rank]))
    monkeypatch.setattr(rdma, "PATIENCE", 0.2)
    (line,) = rdma.path_hints(None, [1, 2])
    assert "rank 2: y:1: no answer" in line
