"""Nothing here is collected: these programs need a GPU, and scripts/gpu runs them."""

collect_ignore_glob = ["*.py", "stand_in/*"]


def pytest_terminal_summary(terminalreporter):
    """Say so wherever somebody asks for them."""
    terminalreporter.write_line(
        "tests/gpu: not collected; its programs need a GPU: scripts/gpu test, on a machine with one"
    )
