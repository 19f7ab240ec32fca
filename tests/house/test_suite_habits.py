"""What `manage.py test` adds to a plain call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from marketplace.environment import CHECKOUT
from tests.__main__ import names_a_path, wants_a_browser, with_habits
from tests.conftest import DEAR, pytest_collection_modifyitems


@dataclass
class _Item:
    path: Path


PR_SIZE = ["-m", "not slow and not nightly"]
TWO_PROCESSES = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ([], [*PR_SIZE, *TWO_PROCESSES]),
        (["-x"], ["-x", *PR_SIZE, *TWO_PROCESSES]),
        (["tests/house"], ["tests/house", *PR_SIZE]),
        (["-m", "slow"], ["-m", "slow", *TWO_PROCESSES]),
        (["-n", "0"], ["-n", "0", *PR_SIZE]),
        (["tests/house/test_broker.py::test_x", "-m", "slow"], ["tests/house/test_broker.py::test_x", "-m", "slow"]),
    ],
)
def test_a_call_gets_its_habits(asked: list[str], run: list[str]) -> None:
    assert with_habits(asked) == run


def test_a_browser_is_looked_for_only_when_pages_are_tested() -> None:
    assert wants_a_browser([])
    assert wants_a_browser(["tests/browser"])
    assert not wants_a_browser(["tests/house"])
    assert names_a_path(["tests/house"])


def test_the_dear_files_come_first_and_each_of_them_is_there() -> None:
    assert len(set(DEAR)) == len(DEAR)
    assert [name for name in DEAR if not (CHECKOUT / "tests" / name).is_file()] == []

    one, other = (_Item(CHECKOUT / "tests" / name) for name in DEAR[:2])
    cheap = _Item(CHECKOUT / "tests/house/test_broker.py")
    items: list[Any] = [cheap, other, one]
    pytest_collection_modifyitems(items)

    assert items == [one, other, cheap]
