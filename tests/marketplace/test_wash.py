"""Trade with oneself: one owner on both sides, and money that comes round; neither is ever organic revenue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import permutations
from random import Random
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from ledger.chart import Origin
from ledger.models import Account, Transfer
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.books import build_book
from marketplace.clearing.publication import publish
from marketplace.clearing.services import close_bidding
from marketplace.console.reads import revenue
from marketplace.escrow.wash import OWNERS_MAX, PERIOD, ROUND_SHARE_PPM, circles_in, mark_suspects
from pricing.bundle import public_bundle
from pricing.clearing import clear
from tests.journey import world

# --- circles in general -----------------------------------------------------------------------------------------------
CASES: list[tuple[str, dict[str, dict[str, int]], set[tuple[str, ...]]]] = [
    ("a chain", {"a": {"b": 9}, "b": {"c": 9}}, set()),
    ("there and back", {"a": {"b": 9}, "b": {"a": 9}}, {("a", "b")}),
    ("three", {"a": {"b": 10}, "b": {"c": 8}, "c": {"a": 5}}, {("a", "b", "c")}),
    ("three, but little comes back", {"a": {"b": 10}, "b": {"c": 8}, "c": {"a": 4}}, set()),
    ("four", {"a": {"b": 1}, "b": {"c": 1}, "c": {"d": 1}, "d": {"a": 1}}, {("a", "b", "c", "d")}),
    ("five is not looked for", {"a": {"b": 1}, "b": {"c": 1}, "c": {"d": 1}, "d": {"e": 1}, "e": {"a": 1}}, set()),
    ("nobody", {}, set()),
]


@pytest.mark.parametrize(("name", "edges", "found"), CASES, ids=[case[0] for case in CASES])
def test_circles_are_found_once_each(name: str, edges: dict[str, dict[str, int]], found: set[tuple[str, ...]]) -> None:
    circles = [circle for circle, _ in circles_in(edges)]

    assert set(circles) == found
    assert len(circles) == len(set(circles))


def test_circles_agree_with_trying_every_order_on_random_flows() -> None:
    rng = Random(7)
    total = 0
    for _ in range(200):
        edges: Any = defaultdict(dict)
        for payer, payee in permutations("abcdef", 2):
            if rng.random() < 0.3:
                edges[payer][payee] = rng.randint(1, 10)
        tried = set()
        for count in range(2, OWNERS_MAX + 1):
            for path in permutations("abcdef", count):
                flows = [edges[a].get(b) for a, b in zip(path, (*path[1:], path[0]), strict=True)]
                if path[0] == min(path) and None not in flows and 10**6 * min(flows) >= ROUND_SHARE_PPM * max(flows):
                    tried.add(path)
        assert {circle for circle, _ in circles_in(edges)} == tried
        total += len(tried)
    assert total > 200


# --- one owner --------------------------------------------------------------------------------------------------------
@pytest.mark.stage("bidding")
def test_a_pair_that_came_under_one_owner_after_the_book_was_built_is_refused_by_the_database() -> None:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    book, lines = build_book(window=window)
    outcome = clear(book)
    files = public_bundle(outcome, window=window.name)
    m.Party.objects.filter(slug="harbour").update(parent=world.party("elm"))
    m.Party.objects.filter(slug="birch").update(parent=world.party("elm"))  # harbour serves birch's climate

    with pytest.raises(IntegrityError, match="award_is_between_two_owners"), transaction.atomic():
        publish(window=window, outcome=outcome, files=files, lines=lines, now=clock.now())
    m.Party.objects.filter(slug="harbour").update(parent=None)
    assert publish(window=window, outcome=outcome, files=files, lines=lines, now=clock.now()).awards.count() == 6


def fees(origin: str) -> int:
    accounts = Account.objects.filter(code="foundation.fees").values_list("pk", flat=True)
    return sum(row.amount for row in Transfer.objects.filter(credit__in=list(accounts), origin=origin))


def test_leases_whose_parties_became_one_are_settled_with_the_tag_and_no_headline(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    m.Party.objects.filter(slug="harbour").update(parent=world.party("birch"))
    before = revenue()

    cycle.advance_until_quiet(now=clock.now())

    pair = m.Lease.objects.filter(buyer__slug="birch", provider__slug="harbour")
    now_settled, before_settled = pair.filter(window=world.window()), pair.filter(window__name=world.EARLY)
    assert set(m.SuspectFlow.objects.values_list("lease", "kind", "is_tagged_in_books")) == {
        *((lease.pk, "same_owner", True) for lease in now_settled),
        *((lease.pk, "same_owner", False) for lease in before_settled),  # its transfers were posted as organic
    }
    fee = sum(lease.settlement_line.fee_micros for lease in now_settled)
    late = sum(lease.settlement_line.fee_micros for lease in before_settled)
    after = revenue()
    assert fees(Origin.SELF_DEALING_SUSPECT) == fee > 0
    assert (dict(after.other), after.late_suspects_micros) == ({"self_dealing_suspect": fee}, late)
    others = m.SettlementLine.objects.filter(lease__window=world.window()).exclude(lease__in=now_settled)
    assert after.organic_micros == before.organic_micros - late + sum(line.fee_micros for line in others)
    assert late > 0


# --- circles in the books ---------------------------------------------------------------------------------------------
@pytest.mark.stage("judged")
def test_money_that_comes_round_between_two_owners_is_tagged_before_it_is_settled() -> None:
    """Alder pays granite and birch pays harbour; then birch turns out to own granite, and alder harbour."""
    m.Party.objects.filter(slug="granite").update(parent=world.party("birch"))
    m.Party.objects.filter(slug="harbour").update(parent=world.party("alder"))
    window = world.window()
    between = m.Lease.objects.filter(window=window).exclude(state="refused")
    out, back = (between.get(buyer__slug=buyer, provider__slug=seller) for buyer, seller in (
        ("alder", "granite"), ("birch", "harbour")))  # fmt: skip
    assert min(out.fee_micros, back.fee_micros) * 10**6 >= ROUND_SHARE_PPM * max(out.fee_micros, back.fee_micros)

    tagged = mark_suspects(leases=[out, back], now=clock.now())

    assert tagged == {out.pk, back.pk}
    rows = m.SuspectFlow.objects.filter(lease__in=tagged)
    assert {(row.kind, tuple(row.owners)) for row in rows} == {("circular", ("alder", "birch"))}
    assert mark_suspects(leases=[out, back], now=clock.now()) == tagged  # looked at again, found once
    assert rows.count() == 2


@pytest.mark.stage("closed")
def test_a_circle_that_closes_later_takes_fees_posted_as_organic_out_of_the_headline() -> None:
    before = revenue()
    leases = list(m.Lease.objects.filter(state="settled", window=world.window()).select_related("buyer", "provider"))
    lease = max(leases, key=lambda each: each.settlement_line.fee_micros)
    m.Party.objects.filter(pk=lease.provider_id).update(parent=lease.buyer)
    pairs = [each for each in leases if (each.buyer_id, each.provider_id) == (lease.buyer_id, lease.provider_id)]

    assert mark_suspects(leases=[], now=lease.made_at) == set()
    assert not mark_suspects(leases=[], now=lease.made_at + PERIOD)  # once is enough

    rows = m.SuspectFlow.objects.filter(lease__in=pairs)
    assert rows.count() == len(pairs)
    assert set(rows.values_list("is_tagged_in_books", flat=True)) == {False}
    fee = sum(row.lease.settlement_line.fee_micros for row in m.SuspectFlow.objects.all())
    assert (revenue().organic_micros, revenue().late_suspects_micros) == (before.organic_micros - fee, fee)
    assert fee > 0


@pytest.mark.stage("closed")
def test_an_ordinary_market_has_no_suspects() -> None:
    assert not m.SuspectFlow.objects.exists()
    mark_suspects(leases=[], now=clock.now())
    assert not m.SuspectFlow.objects.exists()
