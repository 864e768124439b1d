"""What the benchmark counts with; what it measures is measured by `make bench`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import measuring
from bench.measuring import Contender, Run, Summary, VoidError
from bench.results import Target, targets_table


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program that measures, in a folder of the test's own."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    measuring.tool.cache_clear()
    yield
    measuring.tool.cache_clear()


def test_the_median_and_the_ends_of_several_values() -> None:
    assert Summary.of([3.0, 1.0, 2.0, 10.0]) == Summary(2.5, 1.0, 10.0)
    with pytest.raises(ValueError, match="no values"):
        Summary.of([])


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "12.3 ms"), (0.2151, "215 ms"), (2.904, "2.90 s")]
)
def test_times_are_told_as_people_read_them(value: float, text: str) -> None:
    assert measuring.seconds(value) == text


def test_a_target_is_met_at_its_limit_and_never_without_a_figure() -> None:
    most, least = Target("a", "time", 1.5), Target("b", "speed", 1.0, least=True)
    assert [Target("a", "", 1.5, x).met for x in (1.5, 1.51, None)] == [True, False, False]
    assert [Target("b", "", 1.0, x, least=True).met for x in (1.0, 0.99, None)] == [
        True,
        False,
        False,
    ]
    assert "**missed**" in targets_table([most, least])


@pytest.mark.usefixtures("compiled")
def test_a_run_tells_time_cpu_memory_and_how_it_ended() -> None:
    busy = "x = bytearray(50_000_000)\nfor n in range(2_000_000): pass\nprint('done')"
    done = measuring.run(Contender("busy", [sys.executable, "-c", busy], {}))
    assert (done.status, done.output) == ("0", "done\n")
    assert 0 < done.cpu <= done.wall + 0.02
    assert done.peak > 50_000_000 / 2**20
    small = measuring.run(Contender("small", ["sleep", "0.1"], {"PATH": "/bin:/usr/bin"}))
    assert small.wall >= 0.1
    assert small.peak < 10  # not that of the process that started it
    assert small.cpu < 0.1


@pytest.mark.usefixtures("compiled")
def test_what_takes_too_long_is_stopped_with_its_children() -> None:
    waiting = Contender("waiting", ["sh", "-c", "sleep 60; true"], {"PATH": "/bin:/usr/bin"}, (), 1)
    done = measuring.run(waiting)
    assert done.status == "late"
    assert 1 <= done.wall < 60


@pytest.mark.usefixtures("compiled")
def test_a_command_that_ends_wrongly_gives_no_figure() -> None:
    with pytest.raises(VoidError, match="ended with 3"):
        measuring.run(Contender("wrong", [sys.executable, "-c", "raise SystemExit(3)"], {}))


@pytest.mark.usefixtures("compiled")
def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def note(name: str) -> Contender:
        def seen(_done: Run) -> None:
            order.append(name)

        return Contender(name, ["true"], {"PATH": "/bin:/usr/bin"}, check=seen)

    runs = measuring.race([note("a"), note("b")], 2)
    assert order == ["a", "b"] * 3
    assert {name: len(each) for name, each in runs.items()} == {"a": 2, "b": 2}
