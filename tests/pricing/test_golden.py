"""Golden books: small enough that every price can be worked out by hand; each file says how in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marketplace.environment import CHECKOUT
from pricing.book import Book, make_book
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import Attributes, BidLine, DemandLine, Requirement, Rules
from pricing.verify import verify_bundle

CASES = sorted((CHECKOUT / "fixtures" / "clearing" / "golden").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_book_worked_out_by_hand_clears_as_written(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    book, expected = book_of(case), case["expect"]

    bundle = public_bundle(clear(book), window="golden")
    manifest = json.loads(bundle["manifest.json"])

    assert prices_by_bid(bundle) == expected["prices"], case["because"]
    assert rows(bundle, "awards.jsonl") == expected["awards"], case["because"]
    assert rows(bundle, "reasons.jsonl") == expected["reasons"], case["because"]
    assert manifest["welfare_micros"] == expected["welfare_micros"]
    assert manifest["bound_micros"] == expected.get("bound_micros", manifest["bound_micros"])
    report = verify_bundle(bundle)
    assert report.ok, [check for check in report.checks if not check.ok]


def test_every_golden_book_says_why_in_one_sentence() -> None:
    reasons = [json.loads(path.read_text(encoding="utf-8"))["because"] for path in CASES]

    assert len(reasons) >= 16
    assert all(reason.endswith(".") and reason.count(". ") == 0 for reason in reasons)


def book_of(case: dict[str, Any]) -> Book:
    """Return the book of a golden file; its rows hold the fields of the lines by name."""
    return make_book(
        slots=case["slots"], demands=[demand_of(row) for row in case["demands"]],
        bids=[bid_of(row) for row in case["bids"]], rules=Rules(**case.get("rules", {})),
    )  # fmt: skip


def demand_of(row: dict[str, Any]) -> DemandLine:
    wanted = row["requirement"].items()
    rule: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in wanted}
    return DemandLine(**{**row, "requirement": Requirement(**rule)})


def bid_of(row: dict[str, Any]) -> BidLine:
    return BidLine(**{**row, "attributes": Attributes(**row["attributes"])})


def rows(bundle: dict[str, bytes], name: str) -> list[dict[str, Any]]:
    """Return the rows of one file of a bundle."""
    return [json.loads(line) for line in bundle[name].splitlines()]


def prices_by_bid(bundle: dict[str, bytes]) -> dict[str, list[int | None]]:
    """Return what the capacity of each bid costs in every slot of the window; None where nothing alike traded."""
    price = {row["signature"]: row["price_micros"] for row in rows(bundle, "prices.jsonl")}
    signature = {
        (row["attributes"], row["parent"]): row["signature"]
        for row in rows(bundle, "masks.jsonl") if "signature" in row
    }
    return {
        row["id"]: price[signature[row["attributes"], row["parent"] if (row["attributes"], row["parent"]) in signature
                                   else None]]
        for row in rows(bundle, "bids.jsonl")
    }
