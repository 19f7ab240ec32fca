"""Papers: what capacity must hold beside its place and tier. In the engine, the bundle, the replay and the verifier."""

from __future__ import annotations

import json

import pytest

from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.errors import BadText
from pricing.replay import replay_bundle
from pricing.verify import verify_bundle
from tests.pricing.lines import bid, book, demand


def market():
    """The cheap offer lacks one of two papers that the first demand asks for."""
    return book(
        demand("health", 2_000, papers=("pci", "baa:x")), demand("plain", 1_500),
        bid("cheap", 100, papers=("pci",)), bid("fit", 1_000, papers=("pci", "baa:x")),
    )  # fmt: skip


def test_a_demand_is_served_by_the_holder_of_every_paper_although_it_asks_more():
    files = public_bundle(clear(market()), window="w")
    awards = {(row["demand_id"], row["bid_id"]) for row in map(json.loads, files["awards.jsonl"].splitlines())}

    assert awards == {("health", "fit"), ("plain", "cheap")}
    assert verify_bundle(files).ok
    assert replay_bundle(files) == ()


def test_the_verifier_sees_a_paper_that_was_slipped_in():
    files = public_bundle(clear(market()), window="w")
    forged = files["attributes.jsonl"].replace(b'"papers":["pci"]', b'"papers":["baa:x","pci"]')
    assert forged != files["attributes.jsonl"]

    report = verify_bundle({**files, "attributes.jsonl": forged})

    assert not report.ok


def test_what_asks_for_nothing_is_published_as_before():
    files = public_bundle(clear(book(demand("d"), bid("b"))), window="w")

    assert b"papers" not in files["requirements.jsonl"] + files["attributes.jsonl"]


def test_a_demand_for_a_paper_that_nobody_holds_names_the_rule():
    files = public_bundle(clear(book(demand("d", papers=("pci",)), bid("b"))), window="w")
    (reason,) = [row for row in map(json.loads, files["reasons.jsonl"].splitlines()) if row["line_id"] == "d"]

    assert (reason["code"], reason["detail"]["rule"]) == ("no_compliant_capacity", "papers")
    assert verify_bundle(files).ok


@pytest.mark.parametrize("papers", [("",), ("two words",), ["pci"], (1,)])
def test_a_paper_is_a_name(papers):
    with pytest.raises(BadText):
        book(demand("d", papers=papers), bid("b"))
