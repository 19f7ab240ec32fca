"""M-062: a non-compliant pair is absent from the feasible set, and neither the ORM nor raw SQL can write one.

One thousand attempts by each route, none accepted, and good ones beside them. The fourth route, a raw call of the
escrow contract, is in `tests/contracts/test_lock_outside_rules.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import IntegrityError, connection, transaction
from psycopg.types.json import Jsonb

from ledger.ids import uuid7
from marketplace import clock, postgres
from marketplace import models as m
from marketplace.clearing.books import cleared_bids, make_window_book
from marketplace.compliance.agreements import end_agreement
from marketplace.compliance.evidence import end_evidence
from marketplace.compliance.incidents import open_incident
from marketplace.demo.papers import reviewer_seat
from marketplace.parties.services import set_owner
from pricing.eligibility import match_lines
from tests.marketplace import refused_market
from tests.marketplace.refused_market import Fact, Market, Wish, is_compliant
from tests.owner import behind_the_triggers, unseen

ATTEMPTS = 1_000
SEED = 84
INSERT = """
INSERT INTO marketplace_award (id, clearing_id, demand_id, bid_id, start_slot, end_slot, units, slot_prices_micros,
                               amount_micros)
VALUES (%s, %s, %s, %s, 1, 2, 1, %s, 9000)
"""


def insert_raw(cursor: psycopg.Cursor[Any], market_rows: Rows, wish: Wish, fact: Fact) -> None:
    cursor.execute(INSERT, [uuid7(clock.now()), market_rows.clearing, market_rows.demands[wish.reference],
                            market_rows.bids[fact.reference], Jsonb([9_000])])  # fmt: skip


class Rows:
    """The keys of what the attempts name."""

    def __init__(self, market: Market) -> None:
        self.clearing = m.Clearing.objects.get(window__name=refused_market.NAME).pk
        self.demands = dict(m.Demand.objects.filter(reference__in=market.wishes).values_list("reference", "pk"))
        self.bids = dict(m.Bid.objects.filter(reference__in=market.facts).values_list("reference", "pk"))


def some(pairs: list[tuple[Wish, Fact]], route: str) -> list[tuple[Wish, Fact]]:
    """A thousand draws of pairs, others for each route."""
    return random.Random(f"{SEED} {route}").choices(pairs, k=ATTEMPTS)


RULES = (
    "award_is_of_an_accepted_class", "award_keeps_residency", "award_keeps_legal_control", "award_keeps_the_tier",
    "award_keeps_the_ultimate_parent", "award_proves_legal_control", "award_holds_every_control_of_the_tier",
    "award_holds_every_asked_control", "award_has_the_agreement_of_both", "award_keeps_the_latency_bound",
    "award_is_between_two_owners", "award_is_of_nothing_frozen",
)  # fmt: skip
refused_by: Counter[str] = Counter()


def accepted_by_orm(rows: Rows, wish: Wish, fact: Fact) -> bool:
    try:
        with transaction.atomic():
            m.Award.objects.create(
                id=uuid7(clock.now()), clearing_id=rows.clearing, demand_id=rows.demands[wish.reference],
                bid_id=rows.bids[fact.reference], start_slot=1, end_slot=2, units=1, slot_prices_micros=[9_000],
                amount_micros=9_000,
            )  # fmt: skip
            transaction.set_rollback(True)
    except IntegrityError as refusal:
        rule = str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
        refused_by[rule] += 1
        return not rule.startswith("award_")  # refused for another reason is no proof
    return True


def accepted_by_sql(rows: Rows, role: str) -> Callable[[list[tuple[Wish, Fact]]], Counter[bool]]:
    """Attempts over a connection of its own, logged in as that role, as psql would."""

    def attempt(pairs: list[tuple[Wish, Fact]]) -> Counter[bool]:
        found: Counter[bool] = Counter()
        entry = postgres.django_database(name=connection.settings_dict["NAME"], role=role)
        entry["OPTIONS"].pop("pool", None)
        with psycopg.connect(**postgres.psycopg_fields(entry)) as raw:
            owner = raw.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'marketplace_award'").fetchone()
            me = raw.execute("SELECT current_user").fetchone()
            assert (me == owner) == (role == "owner")  # each route has its own rights
            for wish, fact in pairs:
                try:
                    with raw.transaction(force_rollback=True):
                        insert_raw(raw.cursor(), rows, wish, fact)
                except psycopg.errors.CheckViolation as refusal:
                    found[not str(refusal.diag.constraint_name).startswith("award_")] += 1
                else:
                    found[True] += 1
        return found

    return attempt


def feasible_pairs(market: Market) -> set[tuple[str, str]]:
    """What the service that clears calls feasible: demand and bid by their references."""
    window = m.Window.objects.get(name=refused_market.NAME)
    rows = m.Demand.objects.filter(window=window)
    demands = list(rows.select_related("party__parent", "zone", "control_zone", "sla", "data_class"))
    book, lines = make_window_book(window, demands, cleared_bids(window))
    found = match_lines(book)
    return {
        (lines.demands[d].reference, lines.bids[b].reference)
        for i, d in enumerate(book.demands.ids) if found.mask_of_demand[i] >= 0
        for j, b in enumerate(book.bids.ids)
        if found.accepts[found.mask_of_demand[i], found.signature_of_bid[j]]
    }  # fmt: skip


def test_a_thousand_non_compliant_attempts_by_each_route_are_refused(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    market = refused_market.build(SEED)
    rows = Rows(market)
    bad, good = market.non_compliant(), market.compliant()
    assert min(len(bad), len(good)) > 60

    feasible = feasible_pairs(market)
    by_service = [(w.reference, f.reference) in feasible for w, f in some(bad, "service")]
    refused_by.clear()
    by_orm = [accepted_by_orm(rows, *pair) for pair in some(bad, "orm")]
    print("\n".join(f"{count:5} refused by {rule}" for rule, count in refused_by.most_common()))
    assert set(refused_by) == set(RULES)  # each rule that a pair can break did refuse some
    as_product, as_owner = accepted_by_sql(rows, "product"), accepted_by_sql(rows, "owner")
    by_product, by_owner = as_product(some(bad, "product")), as_owner(some(bad, "owner"))

    assert (len(by_service), sum(by_service)) == (ATTEMPTS, 0)
    assert (len(by_orm), sum(by_orm)) == (ATTEMPTS, 0)
    assert by_product == by_owner == Counter({False: ATTEMPTS})
    # Every good pair is feasible, and by each route it is taken.
    assert feasible == {(w.reference, f.reference) for w, f in good}
    assert all(accepted_by_orm(rows, *pair) for pair in good)
    assert as_product(good) == as_owner(good) == Counter({True: len(good)})
    print(f"{ATTEMPTS} attempts by each of service, ORM, SQL as product, SQL as owner: 0 accepted; {len(good)} good")
    # What was cleared is compliant although the unfit asked least.
    served = set(m.Award.objects.filter(clearing=rows.clearing).values_list("demand__reference", "bid__reference"))
    assert served
    assert all(is_compliant(market.wishes[d], market.facts[b]) for d, b in served)
    for forged, (wish, fact) in examples(good).items():
        assert accepted_by_orm(rows, wish, fact)
        with transaction.atomic():
            FORGERIES[forged](wish, fact)
            assert not accepted_by_orm(rows, wish, fact), forged  # the wall looks at the facts, not at the result
            transaction.set_rollback(True)


def examples(good: list[tuple[Wish, Fact]]) -> dict[str, tuple[Wish, Fact]]:
    """For each forgery a good pair that needs what is forged."""
    needs: dict[str, Callable[[Wish], object]] = {
        "tier": lambda w: w.tier_min, "evidence": lambda w: w.tier_min, "parent": lambda w: w.control_zone,
        "agreement": lambda w: w.is_health,
    }  # fmt: skip
    return {name: next((w, f) for w, f in good if name not in needs or needs[name](w)) for name in FORGERIES}


def revoke(control: str, fact: Fact) -> None:
    shown = m.Evidence.objects.get(party__slug=fact.reference, control_id=control)
    end_evidence(evidence=shown, seat=shown.seat, reason="revoked", now=clock.now())


def leave(wish: Wish, fact: Fact) -> None:
    signed = m.Agreement.objects.get(buyer__slug=wish.buyer, provider__slug=fact.reference)
    end_agreement(agreement=signed, seat=signed.seat, reason="ended", now=clock.now())


def class_of(fact: Fact) -> m.NodeClass:
    return m.NodeClass.objects.get(site__code=fact.reference)


def span() -> dict[str, Any]:
    """The whole window, and who writes."""
    window, now = m.Window.objects.get(name=refused_market.NAME), clock.now()
    return {"id": uuid7(now), "from_at": window.starts_at, "until_at": window.ends_at, "seat": m.Seat.objects.all()[0],
            "made_at": now}  # fmt: skip


def carve_out(wish: Wish, fact: Fact) -> None:
    with behind_the_triggers():
        m.CarveOut.objects.create(node_class=class_of(fact), units=4, purpose="own research", **span())


def tag(policy: str, **prices: int) -> Callable[[Wish, Fact], None]:
    def put(wish: Wish, fact: Fact) -> None:
        with behind_the_triggers():
            source = m.FundingSource.objects.create(code=policy, name=policy, policy=policy, source="for the test")
            m.FundingTag.objects.create(node_class=class_of(fact), source=source, units=4, **prices, **span())

    return put


def freeze(wish: Wish, fact: Fact) -> None:
    open_incident(seat=reviewer_seat(clock.now()), title="later", party=class_of(fact).party, freeze=True,
                  discovered_at=clock.now(), reason="found after clearing", now=clock.now())  # fmt: skip


FORGERIES: dict[str, Callable[[Wish, Fact], object]] = {
    "carve-out": carve_out, "grant that forbids": tag("forbidden"), "freeze": freeze,
    "grant at full cost": tag("cost_recovery", floor_micros=9_100, ceiling_micros=10_000),
    "owner": lambda wish, fact: set_owner(party=m.Party.objects.get(slug=fact.reference), actor="test",
                                          parent=m.Party.objects.get(slug=wish.buyer), now=clock.now()),
    "tier": lambda wish, fact: unseen(m.NodeClass.objects.filter(site__code=fact.reference), tier=0),
    "parent": lambda wish, fact: m.Party.objects.filter(slug=fact.reference).update(parent_country="CN"),
    "evidence": lambda wish, fact: revoke("tenant-isolation", fact),
    "agreement": leave,
}
