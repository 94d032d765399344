"""The benchmark's options: what they mean, and one line for what makes no sense."""

from __future__ import annotations

import pytest

from mooncake_mpi.bench import arguments, peers, plans, plot
from mooncake_mpi.bench.options import BenchOptions, OptionError, parse_sizes, size_name

MIB = 1 << 20


def test_every_command_has_a_plan_and_the_documented_defaults():
    assert set(arguments.COMMANDS) == set(plans.PLANS)
    for command in arguments.COMMANDS:
        name, options = arguments.parse_options([command])
        assert name == command
        assert (options.window, options.repeats, options.against) == (64, 5, ("mpi",))
        assert options.memory == "numpy"


def test_sizes_run_from_one_byte_to_64_mib_in_powers_of_four():
    _, options = arguments.parse_options(["latency"])
    assert options.sizes[0] == 1
    assert options.sizes[-1] == 64 * MIB
    assert options.sizes == parse_sizes("1:64M")
    assert arguments.parse_options(["message-rate"])[1].sizes == (8,)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8", (8,)),
        ("1,64K, 2MiB", (1, 65536, 2 * MIB)),
        ("0", (0,)),
        ("16:100", (16, 64, 100)),
        ("4G", (4 << 30,)),
    ],
)
def test_a_list_or_a_range_of_sizes(text, sizes):
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize(("size", "name"), [(0, "0 B"), (1000, "1000 B"), (3 * MIB, "3 MiB")])
def test_a_size_is_named_with_the_largest_unit_that_divides_it(size, name):
    assert size_name(size) == name


def test_peers_are_a_list():
    assert arguments.parse_options(["latency", "--against", "gloo,mpi"])[1].against == (
        "gloo",
        "mpi",
    )
    assert arguments.parse_options(["latency", "--against", "none"])[1].against == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "required: latency|bandwidth"),
        (["speed"], "'speed'"),
        (["latency", "--sizes", "1x"], "--sizes: '1x'"),
        (["latency", "--sizes", "5G"], "--sizes: '5G' is larger"),
        (["latency", "--sizes", "8:4"], "--sizes: '8:4'"),
        (["latency", "--sizes", ""], "--sizes: ''"),
        (["latency", "--iterations", "0"], "--iterations: '0'"),
        (["latency", "--warmup", "-1"], "--warmup"),
        (["latency", "--repeats", "1.5"], "--repeats: '1.5'"),
        (["latency", "--against", "ucx"], "--against: 'ucx'"),
        (["latency", "--against", "mpi,mpi"], "--against: 'mpi' comes twice"),
        (["latency", "--against", "mpi,none"], "--against: none cannot be combined"),
        (["latency", "--memory", "tape"], "--memory: invalid choice: 'tape'"),
        (["latency", "--device", "tpu"], "--device: 'tpu'"),
        (["latency", "--device", "cpu:0"], "--device: 'cpu:0'"),
        (["latency", "--window", "4"], "--window"),
        (["bibw", "--window", "none"], "--window: 'none'"),
        (["ring", "--sizes", "8"], "--sizes"),
        (["matching", "--outstanding", "1,-2"], "--outstanding: '-2'"),
        (["overlap", "--compute", "fortran"], "--compute: 'fortran'"),
        (["latency", "--json", "/no/such/folder/x.json"], "--json: no directory"),
        (["latency", "--plot", "/no/such/folder/x.png"], "--plot: no directory"),
    ],
)
def test_what_makes_no_sense_is_named_in_one_line(words, expected):
    with pytest.raises(OptionError) as raised:
        arguments.parse_options(words)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "ranks", "fits"),
    [
        ("latency", 2, True),
        ("latency", 3, False),
        ("overlap", 1, False),
        ("multi-latency", 6, True),
        ("multi-latency", 5, False),
        ("message-rate", 1, False),
        ("ring", 1, True),
        ("ring", 7, True),
    ],
)
def test_a_command_runs_on_its_number_of_ranks_only(command, ranks, fits):
    if fits:
        plans.require_ranks(command, ranks)
        return
    with pytest.raises(OptionError, match=f"{command} needs .* ranks and has {ranks}"):
        plans.require_ranks(command, ranks)


def test_a_peer_without_tags_is_not_measured_where_tags_matter():
    plans.require_peers("matching", ("mpi", "gloo"))
    plans.require_peers("latency", ("nccl",))
    with pytest.raises(OptionError, match="matching cannot measure nccl: it has no tags"):
        plans.require_peers("matching", ("mpi", "nccl"))


@pytest.mark.parametrize(
    ("options", "absent", "expected"),
    [
        (BenchOptions(), {"torch", "cupy"}, None),
        (BenchOptions(against=("gloo",)), {"torch"}, "--against: gloo needs torch"),
        (BenchOptions(memory="torch"), {"torch"}, "--memory: torch needs torch, which is not"),
        (BenchOptions(memory="cupy"), {"cupy"}, "--memory: cupy needs cupy, which is not"),
        (BenchOptions(device="cuda"), set(), "--device: only torch's and CuPy's memory has one"),
        (BenchOptions(against=("nccl",)), set(), "--against: nccl carries GPU memory only"),
    ],
)
def test_a_part_that_is_missing_is_named(monkeypatch, options, absent, expected):
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name in absent else object())
    problem = peers.missing_parts(options)
    assert problem == expected or expected in problem


@pytest.mark.parametrize("memory", ["torch", "cupy"])
def test_a_gpu_that_is_not_there_is_named(monkeypatch, memory):
    monkeypatch.setattr(peers, "find_spec", lambda name: object())
    monkeypatch.setattr(peers, "gpu_count", lambda module: 0)
    device = "cuda" if memory == "torch" else "cpu"
    problem = peers.missing_parts(BenchOptions(memory=memory, device=device))
    assert problem == f"argument --memory: {memory} finds no GPU here"


def test_gloo_is_not_compared_in_gpu_memory(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: object())
    monkeypatch.setattr(peers, "gpu_count", lambda module: 2)
    options = BenchOptions(memory="torch", device="cuda", against=("gloo",))
    assert "gloo is compared in host memory only" in peers.missing_parts(options)


def test_a_plot_needs_matplotlib_and_a_known_kind_of_file(monkeypatch):
    plot.require_matplotlib("x.png")
    with pytest.raises(OptionError, match=r"--plot: 'x.gif' does not end in .png"):
        plot.require_matplotlib("x.gif")
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="--plot: matplotlib is not installed"):
        plot.require_matplotlib("x.png")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Open MPI v6.1.2, package: a distribution's", "Open MPI 6.1.2"),
        ("MPICH Version:      4.3.1\nMPICH Release date", "MPICH 4.3.1"),
        ("Another MPI library of some vendor", "Another MPI library"),
    ],
)
def test_the_library_is_named_with_its_version(text, name):
    assert peers.library_name(text) == name


@pytest.mark.parametrize(("here", "memory"), [({"cupy", "torch"}, "cupy"), ({"torch"}, "torch")])
def test_a_device_chooses_memory_and_what_it_is_compared_with(monkeypatch, here, memory):
    monkeypatch.setattr(arguments, "find_spec", lambda name: name in here or None)
    _, options = arguments.parse_options(["bibw", "--device", "cuda"])
    assert options.memory == memory
    assert options.against == (("cupy-nccl", "nccl", "copy") if "cupy" in here else ("nccl",))
    _, options = arguments.parse_options(["bibw", "--device", "cuda", "--against", "none"])
    assert options.against == ()
