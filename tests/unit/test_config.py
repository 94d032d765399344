"""Settings come from the environment, and a bad one is named."""

from __future__ import annotations

import dataclasses

import pytest

from mooncake_mpi.config import SETTINGS, Config, ConfigError, load, unknown_variables


def test_nothing_set_leaves_every_choice_to_the_engine():
    assert load({}) == Config()
    assert load({}).as_dict() == {"lanes": ""}


def test_every_setting_has_a_variable():
    assert set(SETTINGS) == {field.name for field in dataclasses.fields(Config)}


def test_what_is_set_is_passed_on():
    config = load(
        {
            "MOONCAKE_MPI_EAGER_LIMIT": "64 KiB",
            "MOONCAKE_MPI_CMA": "0",
            "MOONCAKE_MPI_SPIN_US": "20",
            "MOONCAKE_MPI_UNEXPECTED_LIMIT": "2M",
            "MOONCAKE_MPI_PROGRESS_THREAD": "off",
            "MOONCAKE_MPI_TIMEOUT_S": "1.5",
            "MOONCAKE_MPI_MAPPING": "0",
            "MOONCAKE_MPI_MEMORY_KEEP": "1G",
            "MOONCAKE_MPI_NUMPY": "1",
            "MOONCAKE_MPI_NUMPY_THRESHOLD": "1M",
            "MOONCAKE_MPI_LANES": "shm, self",
            "MOONCAKE_MPI_TLS": "1",
        }
    )
    assert config.as_dict() == {
        "eager_limit_bytes": 65536,
        "cma": False,
        "spin_us": 20,
        "unexpected_limit_bytes": 2 << 20,
        "progress_thread": False,
        "timeout_ms": 1500,
        "mapping": False,
        "memory_keep_bytes": 1 << 30,
        "numpy": True,
        "numpy_threshold_bytes": 1 << 20,
        "lanes": "shm, self",
        "tls": True,
    }
    assert config.lane_names() == ("shm", "self")


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load({}).cma = False


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MOONCAKE_MPI_EAGER_LIMIT", "much"),
        ("MOONCAKE_MPI_EAGER_LIMIT", "-1"),
        ("MOONCAKE_MPI_CMA", "maybe"),
        ("MOONCAKE_MPI_SPIN_US", "1.5"),
        ("MOONCAKE_MPI_SPIN_US", "-3"),
        ("MOONCAKE_MPI_UNEXPECTED_LIMIT", "4 XiB"),
        ("MOONCAKE_MPI_PROGRESS_THREAD", "2"),
        ("MOONCAKE_MPI_TIMEOUT_S", "soon"),
        ("MOONCAKE_MPI_TIMEOUT_S", "-1"),
        ("MOONCAKE_MPI_TIMEOUT_S", "inf"),
        ("MOONCAKE_MPI_MAPPING", "some"),
        ("MOONCAKE_MPI_MEMORY_KEEP", "-1"),
        ("MOONCAKE_MPI_NUMPY", "2"),
        ("MOONCAKE_MPI_NUMPY_THRESHOLD", "large"),
        ("MOONCAKE_MPI_LANES", "shm,carrier-pigeon"),
        ("MOONCAKE_MPI_TLS", "yes please"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(variable, value):
    with pytest.raises(ConfigError) as caught:
        load({variable: value})
    text = str(caught.value)
    assert text.startswith(f"{variable}={value!r}: ")
    assert "\n" not in text


def test_an_empty_variable_counts_as_not_set():
    assert load({"MOONCAKE_MPI_CMA": " "}) == Config()


@pytest.mark.parametrize(
    "variable",
    sorted(
        variable
        for variable, parse, *_ in SETTINGS.values()
        if parse.__name__ not in {"str", "parse_switch"}
    ),
)
@pytest.mark.parametrize("text", ["9" * 40, "1" + "0" * 18 + "G", "1e300", "inf"])
def test_a_value_beyond_all_counting_is_an_error_that_names_its_variable(variable, text):
    with pytest.raises(ConfigError, match=variable):
        load({variable: text})


def test_the_shortest_timeout_is_not_none():
    assert load({"MOONCAKE_MPI_TIMEOUT_S": "0.0001"}).timeout_ms == 1
    assert load({"MOONCAKE_MPI_TIMEOUT_S": "0"}).timeout_ms == 0


def test_ports_are_a_range_or_one():
    assert load({"MOONCAKE_MPI_TCP_PORTS": "50000-50100"}).tcp_ports == "50000-50100"
    assert load({"MOONCAKE_MPI_TCP_PORTS": " 4000 "}).tcp_ports == "4000-4000"


@pytest.mark.parametrize("text", ["0", "70000", "5-4", "a-b", "1-2-3", "-5", "5-"])
def test_what_is_no_range_of_ports_is_named(text):
    with pytest.raises(ConfigError, match="MOONCAKE_MPI_TCP_PORTS"):
        load({"MOONCAKE_MPI_TCP_PORTS": text})


def test_a_misspelt_variable_is_found_with_the_nearest_one():
    environ = {"MOONCAKE_MPI_EAGERLIMIT": "1", "MOONCAKE_MPI_XYZ": "1", "MOONCAKE_MPI_CMA": "1"}
    known = {"MOONCAKE_MPI_HOST_ID": "a", "MOONCAKE_MPI_TEST_MPIRUN": "b", "PATH": "c"}
    assert unknown_variables({**environ, **known}) == {
        "MOONCAKE_MPI_EAGERLIMIT": "MOONCAKE_MPI_EAGER_LIMIT",
        "MOONCAKE_MPI_XYZ": "",
    }
