"""What `manage.py test` adds to a plain call."""

from __future__ import annotations

import pytest

from tests.__main__ import names_a_path, wants_a_browser, with_habits

PR_SIZE = ["-m", "not slow and not nightly"]
TWO_PROCESSES = ["-n", "2", "--dist", "loadfile"]


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
