"""Every list of the API comes in pages of one form; what is no list is named here with its reason."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from marketplace.api.docs import SCHEMA
from marketplace.api.paging import page_by_mark, write_cursor
from marketplace.insights.value import Value, values
from marketplace.oversight.reports import Outcome
from tests.api.conftest import Caller
from tests.doors.factories import NOW

NOT_PAGED = {  # operation: why its rows need no pages
    "get_award": "one price per slot of its window",
    "get_certificate": "what one clearing published: its files and the few products under a cap",
    "get_challenge": "the seats of one panel",
    "get_demand": "what one demand asks for, which its own body bounded",
    "get_leg_report": "the legs of one order, which its own body bounded",
    "get_lease": "its clauses, a fixed menu",
    "get_lease_health": "the last 24 hours and the last changes",
    "get_lease_targets": "a line for each target of the menu",
    "get_unit_roll": "the keys of all verifiers: who asks needs them at once",
    "get_window": "a price for each resource class",
}
PAGES_OF_A_BUYER = ("/demands", "/awards", "/leases", "/statement", "/balances", "/price-history")
PAGES_OF_ALL = ("/windows", "/certificates", "/market/prices", "/market/products", "/market/values",
                "/market/report-outcomes", "/probe-days")  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return yaml.load(SCHEMA.read_bytes(), Loader=yaml.CSafeLoader)


def _shape(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = schema["components"]["schemas"][part["$ref"].rpartition("/")[2]]
    return part


def _lists(schema: dict[str, Any]) -> dict[str, tuple[set[str], dict[str, Any]]]:
    """Every read whose answer has rows: its parameters, and the members of its answer."""
    found = {}
    for operations in schema["paths"].values():
        if "get" in operations:
            answers = operations["get"]["responses"]["200"]["content"]
            members = _shape(schema, answers.get("application/json", {}).get("schema", {})).get("properties", {})
            if any(_shape(schema, each).get("type") == "array" for each in members.values()):
                names = {each["name"] for each in operations["get"].get("parameters", ())}
                found[operations["get"]["operationId"]] = (names, members)
    return found


def test_every_list_is_paged_or_has_a_reason(schema):
    lists = _lists(schema)

    assert set(NOT_PAGED) <= set(lists)
    for name in set(lists) - set(NOT_PAGED):
        parameters, members = lists[name]
        assert {"limit", "cursor"} <= parameters, name
        assert {"data", "next_cursor"} <= set(members), name
    for name in NOT_PAGED:
        assert not {"limit", "cursor"} & lists[name][0], f"{name} is paged by now"


def test_a_list_read_one_row_at_a_time_is_the_list(market, buyer, anybody):
    long = set()
    for who, paths in ((buyer, PAGES_OF_A_BUYER), (anybody, PAGES_OF_ALL)):
        for path in paths:
            whole = who.get(path, limit="200").json()["data"][:4]
            seen, cursor = [], {}
            while len(seen) < len(whole):
                answer = who.get(path, limit="1", **cursor)
                body = answer.json()
                assert len(body["data"]) == 1, path
                assert ("next" in answer.headers.get("Link", "")) is (body["next_cursor"] is not None)
                seen, cursor = seen + body["data"], {"cursor": body["next_cursor"]}
            assert seen == whole, path
            long |= {path} if len(whole) > 1 else set()
    assert {"/balances", "/price-history", "/market/prices", "/market/values"} <= long


@pytest.mark.parametrize("cursor", [[], ["x"], [1], [None], [[1], "x"], [{"a": 1}], ["x", 1, "x"], [True, True, "x"]])
def test_a_made_up_cursor_is_refused(market, buyer: Caller, anybody: Caller, cursor):
    for who, path in ((buyer, "/balances"), (buyer, "/price-history"), (anybody, "/market/values"),
                      (anybody, "/market/prices")):  # fmt: skip
        answer = who.get(path, cursor=write_cursor(cursor))
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter"), path
        assert who.get(path, limit="201").json()["code"] == "bad_parameter"
        assert who.get(path, limit="200").status_code == 200


def test_rows_that_come_or_go_move_no_other_row_to_another_page():
    def mark(row: int) -> tuple[int]:
        return (row,)

    first = page_by_mark([1, 2, 3, 4], {"limit": "2"}, mark)
    again = {"limit": "2", "cursor": str(first.next_cursor)}

    assert first.rows == [1, 2]
    assert page_by_mark([0, 2, 3, 4], again, mark).rows == [3, 4]  # one came before the place, one went
    assert page_by_mark([4, 3, 1], again, mark).rows == [3, 4]  # the last one shown is gone
    falling = page_by_mark([1, 2, 3, 4], {"limit": "3"}, mark, is_falling=True)
    assert falling.rows == [4, 3, 2]
    rest = {"limit": "3", "cursor": str(falling.next_cursor)}
    assert page_by_mark([1, 2, 5], rest, mark, is_falling=True).rows == [1]


def test_marks_are_in_the_order_that_is_told(market):
    rows = values(NOW)
    assert len(rows) > 1
    assert rows == sorted(rows, key=Value.mark)
    outcomes = [Outcome("2026-10", "k", True, "s", "b"), Outcome("2026-11", "k", True, "s", "a")]
    assert page_by_mark(outcomes, {}, Outcome.mark, is_falling=True).rows == outcomes[::-1]
