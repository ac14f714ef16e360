"""What the driver is told, and what it says to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture.run import KEYS, arguments, table


def test_a_seed_is_drawn_where_none_is_given() -> None:
    assert arguments([]).seed != arguments([]).seed
    assert arguments(["--seed", "7"]).seed == 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--kills", "-1"], "argument --kills: not a number from 0 to 2000"),
        (["--kills", "many"], "argument --kills: not a number from 0 to 2000"),
        (["--reports", "0"], "argument --reports: not a number from 20 to 1000000"),
        (["--reports", "20", "--nodes", "30"], "argument --reports: less than one for each node"),
        (["--nodes", "3"], "argument --nodes: not a number from 4 to 100"),
        (["--seed", "x"], "argument --seed: not a number from 0 on"),
        (["--speed", "9"], "unrecognized arguments: --speed 9"),
    ],
)
def test_what_is_wrong_is_named(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_nothing_is_written_into_a_directory_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(SystemExit):
        arguments(["--keep", str(tmp_path)])
    assert "argument --keep: that directory is not empty" in capsys.readouterr().err


def test_the_table_names_every_count() -> None:
    found = dict.fromkeys(KEYS, 0) | {"delivered": 0, "loose": 0, "excused": 0, "forgeries": 0, "waiting": 0}
    told = table({**found, "faults": {"kill": 2}, "left_out": ["loss"]})
    assert all(key.replace("_", " ") in told for key in KEYS)
    assert "2 kill" in told
