"""Each of the 97 requirements has the tests that prove it, or says in plain words what is still to be built.

Nothing is imported or collected: a test exists when its file defines it.
"""

from __future__ import annotations

import ast
import csv
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

import pytest

from marketplace.environment import CHECKOUT

LIST = CHECKOUT / "tests" / "requirements.csv"
COLUMNS = ["id", "priority", "test", "later"]
IDS = [f"M-{number:03}" for number in range(1, 98)]
# As agreed. A requirement that changes its priority is a decision, so it changes this line too.
PRIORITIES = {"Must": 56, "Should": 30, "Could": 11}

Row = dict[str, str]
Rows = list[Row]


def read_rows() -> Rows:
    """Return the rows of the list; a row has the four columns and no more."""
    with LIST.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == COLUMNS
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines]


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the tests that a file defines, `test_name` or `TestClass::test_name`; none when there is no such file."""
    path = CHECKOUT / file
    if not (file.startswith("tests/") and path.name.startswith("test_") and path.is_file()):
        return frozenset()
    return frozenset(_names(ast.parse(path.read_bytes()).body))


def _names(body: Iterable[ast.stmt], prefix: str = "") -> Iterable[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _names(node.body, f"{prefix}{node.name}::")


def does_exist(test: str) -> bool:
    """Say whether a test id names a test, whatever its parameters."""
    file, _, name = test.partition("[")[0].partition("::")
    return name in names_in(file)


def faults_of(rows: Rows) -> list[str]:
    """Return what is wrong with the list, each fault beginning with the name of its rule."""
    ids = [row["id"] for row in rows]
    count = Counter(ids)
    faults = [f"missing: {id_}" for id_ in IDS if id_ not in count]
    faults += [f"unknown: {id_}" for id_ in count if id_ not in IDS]
    faults += [f"doubled: {id_}" for id_, times in count.items() if times > 1]
    if ids != sorted(ids):
        faults.append("unsorted: rows stand in the order of their ids")
    for row in rows:
        tests = row["test"].split()
        if row["priority"] == "Must" and not tests and not row["later"].strip():
            faults.append(f"forgotten: {row['id']} is a Must with neither a test nor later work")
        faults += [f"invented: {row['id']} names {test}" for test in tests if not does_exist(test)]
        faults += [f"repeated: {row['id']} names {test} again" for test, n in Counter(tests).items() if n > 1]
    if Counter(row["priority"] for row in rows) != PRIORITIES:
        faults.append(f"reweighed: the priorities are not {PRIORITIES}")
    return faults


def test_every_requirement_has_its_tests_or_its_later_work() -> None:
    faults = faults_of(read_rows())

    assert not faults, "\n".join(faults)


# --- each rule would notice its break --------------------------------------------------------------------------------
def change(rows: Rows, place: int, **values: str) -> Rows:
    return [*rows[:place], rows[place] | values, *rows[place + 1 :]]


FILE, NAME = "tests/architecture/test_requirements.py", "test_every_requirement_has_its_tests_or_its_later_work"
BREAKS: dict[str, tuple[Callable[[Rows], Rows], set[str]]] = {
    "a row is taken out": (lambda rows: rows[:40] + rows[41:], {"missing", "reweighed"}),
    "a row is written twice": (lambda rows: [*rows[:40], rows[40], *rows[40:]], {"doubled", "reweighed"}),
    "a row has another number": (lambda rows: [*rows[:-1], rows[-1] | {"id": "M-098"}], {"missing", "unknown"}),
    "two rows change places": (lambda rows: [rows[1], rows[0], *rows[2:]], {"unsorted"}),
    "a Must says nothing": (lambda rows: change(rows, 0, test="", later=" "), {"forgotten"}),
    "a test was renamed": (lambda rows: change(rows, 0, test=f"{FILE}::{NAME}_once"), {"invented"}),
    "a test has moved": (lambda rows: change(rows, 0, test=f"tests/test_requirements.py::{NAME}"), {"invented"}),
    "a helper is called a test": (lambda rows: change(rows, 0, test=f"{FILE}::faults_of"), {"invented"}),
    "a file is called a test": (lambda rows: change(rows, 0, test=FILE), {"invented"}),
    "a test is named twice": (lambda rows: change(rows, 0, test=f"{FILE}::{NAME} {FILE}::{NAME}"), {"repeated"}),
    "a Must becomes a Could": (lambda rows: change(rows, 0, priority="Could"), {"reweighed"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_planted_break_breaks_exactly_its_rule(name: str) -> None:
    plant, rules = BREAKS[name]

    assert {fault.partition(":")[0] for fault in faults_of(plant(read_rows()))} == rules


def test_parameters_do_not_hide_a_test_and_a_should_may_wait() -> None:
    rows = read_rows()
    place = next(n for n, row in enumerate(rows) if row["priority"] == "Should")

    assert does_exist(f"{FILE}::test_a_planted_break_breaks_exactly_its_rule[a row is taken out]")
    assert faults_of(change(rows, place, test="", later="")) == []
