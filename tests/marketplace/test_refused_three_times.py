"""M-062: what does not comply is absent from the feasible set, and no other route writes it: ORM, SQL, contract.

One thousand attempts by each route, none accepted, and good ones beside them. Most attempts name a demand and a bid
that do not suit each other; the others enrol hardware that is enrolled elsewhere, or a prosumer before its phase.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import IntegrityError, connection, transaction

from ledger.ids import uuid7
from marketplace import clock, postgres
from marketplace import models as m
from marketplace.capacity.services import enrol_device
from marketplace.clearing.books import cleared_bids, make_window_book
from marketplace.clearing.feasibility import feasibility_of
from marketplace.compliance.agreements import end_agreement
from marketplace.compliance.evidence import end_evidence
from marketplace.compliance.incidents import open_incident
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import DeviceTaken, PhaseClosed
from marketplace.parties.services import make_seat, register_party, set_owner
from pricing.eligibility import match_lines
from tests.contracts import outside_rules
from tests.contracts.world import USD, World
from tests.marketplace import refused_market
from tests.marketplace.refused_market import Fact, Market, Wish, faults, is_compliant
from tests.owner import behind_the_triggers, unseen

ATTEMPTS = 1_000
SEED = 84
PAID = refused_market.PAID_MICROS
# What is wrong with a pair -> the rules of the database that refuse it when nothing else is wrong.
RULES = {
    "class": {"award_is_of_an_accepted_class"}, "zone": {"award_keeps_residency"}, "agreement": {
        "award_has_the_agreement_of_both"}, "control": {"award_keeps_legal_control", "award_keeps_the_ultimate_parent"},
    "no proof of control": {"award_proves_legal_control"}, "latency": {"award_keeps_the_latency_bound"},
    "tier": {"award_keeps_the_tier", "award_holds_every_control_of_the_tier"}, "owner": {"award_is_between_two_owners"},
    "change of owner": {"award_is_between_two_owners"}, "incident": {"award_is_of_nothing_frozen"},
    "no proof of a control": {"award_holds_every_asked_control"}, "carve-out": {"award_leaves_what_is_not_for_sale"},
    "forbidden grant": {"award_leaves_what_is_not_for_sale"},
    "full cost": {"award_pays_the_full_cost_of_funded_capacity"},
    "device enrolled elsewhere": {"a_device_is_enrolled_once"}, "phase": {"prosumer_waits_for_its_phase"},
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One thing that must not happen: the table, the row that would be written, and what is wrong with it."""

    table: type[Any]
    row: dict[str, Any]
    wrong: tuple[str, ...]
    pair: tuple[str, str] = ("", "")  # references of demand and bid

    def by_orm(self) -> str:
        """The rule that refuses, or "" when the row is taken; nothing stays of it."""
        try:
            with transaction.atomic():
                self.table.objects.create(id=uuid7(clock.now()), **self.row)
                transaction.set_rollback(True)
        except IntegrityError as refusal:
            return str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
        return ""


class Draws:
    """Attempts on the rows of the market that was built."""

    def __init__(self, market: Market) -> None:
        self.market, now = market, clock.now()
        self.clearing = m.Clearing.objects.get(window__name=refused_market.NAME).pk
        self.demands = dict(m.Demand.objects.filter(reference__in=market.wishes).values_list("reference", "pk"))
        self.bids = dict(m.Bid.objects.filter(reference__in=market.facts).values_list("reference", "pk"))
        self.classes = list(m.NodeClass.objects.filter(site__code__in=market.facts).select_related("party"))
        self.seats = {row.pk: make_seat(party=row.party, email=f"keeps@{row.party.slug}.example", password=None,
                                        role="operator", now=now) for row in self.classes}  # fmt: skip
        for row in self.classes:
            enrol_device(seat=self.seats[row.pk], node_class=row, device_key=self.key_of(row), label="GPU 0", now=now)

    @staticmethod
    def key_of(row: m.NodeClass) -> bytes:
        return hashlib.sha512(row.pk.bytes).digest()

    def award(self, wish: Wish, fact: Fact) -> Attempt:
        row = {"clearing_id": self.clearing, "demand_id": self.demands[wish.reference],
               "bid_id": self.bids[fact.reference], "start_slot": 1, "end_slot": 2, "units": 1,
               "slot_prices_micros": [PAID], "amount_micros": PAID}  # fmt: skip
        return Attempt(m.Award, row, tuple(faults(wish, fact)), (wish.reference, fact.reference))

    def device(self, rng: random.Random) -> Attempt:
        taken, other = rng.sample(self.classes, 2)
        row = {"node_class_id": other.pk, "key_sha256": hashlib.sha256(self.key_of(taken)).digest(), "label": "GPU 1",
               "enrolled_at": clock.now()}  # fmt: skip
        return Attempt(m.Device, row, ("device enrolled elsewhere",), (str(taken.pk), str(other.pk)))

    def prosumer(self, rng: random.Random) -> Attempt:
        slug = f"prosumer-{rng.randrange(10**6)}"
        row = {"slug": slug, "name": slug, "kind": "prosumer", "country": "DE", "parent_country": "DE",
               "registered_at": clock.now()}  # fmt: skip
        return Attempt(m.Party, row, ("phase",))

    def some(self, route: str) -> list[Attempt]:
        """A thousand, others for each route: half of the pairs have only one thing wrong, so each rule stands alone."""
        rng = random.Random(f"{SEED} {route}")
        bad = [self.award(*pair) for pair in self.market.non_compliant()]
        by_fault: dict[str, list[Attempt]] = {}
        for each in bad:
            if len(each.wrong) == 1:
                by_fault.setdefault(each.wrong[0], []).append(each)
        assert {*by_fault, "device enrolled elsewhere", "phase"} == set(RULES)
        pairs = [rng.choice(by_fault[rng.choice(sorted(by_fault))]) for _ in range(400)] + rng.choices(bad, k=400)
        return pairs + [self.device(rng) for _ in range(100)] + [self.prosumer(rng) for _ in range(100)]


# --- the routes: each gives the rule that refused, or "" --------------------------------------------------------------
def by_service(draws: Draws, feasible: set[tuple[str, str]]) -> Callable[[Attempt], str]:
    """A pair is refused by being absent: no bid was taken, or what clears does not call it feasible."""
    classes = {str(row.pk): row for row in draws.classes}

    def act(attempt: Attempt) -> str:
        if attempt.table is m.Award:
            return "" if attempt.pair in feasible else "absent"
        try:
            with transaction.atomic():
                if attempt.table is m.Device:
                    taken, other = (classes[key] for key in attempt.pair)
                    enrol_device(seat=draws.seats[other.pk], node_class=other, device_key=draws.key_of(taken),
                                 label="GPU 1", now=clock.now())  # fmt: skip
                else:
                    facts = {name: attempt.row[name] for name in ("slug", "name", "kind", "country", "parent_country")}
                    register_party(**facts, now=clock.now())
                transaction.set_rollback(True)
        except (DeviceTaken, PhaseClosed) as refusal:
            return refusal.code
        return ""

    return act


TRY = """
DO $do$
DECLARE
    attempt jsonb;
    rule text;
    found jsonb := '[]';
BEGIN
    FOR attempt IN SELECT value FROM jsonb_array_elements(current_setting('grove.attempts')::jsonb) LOOP
        BEGIN
            EXECUTE attempt->>0 USING attempt->1;
            RAISE EXCEPTION 'taken' USING ERRCODE = 'GX000';
        EXCEPTION WHEN SQLSTATE 'GX000' THEN
            found := found || '""'::jsonb;
        WHEN integrity_constraint_violation THEN
            GET STACKED DIAGNOSTICS rule = CONSTRAINT_NAME;
            found := found || to_jsonb(rule);
        END;
    END LOOP;
    PERFORM set_config('grove.found', found::text, false);
END $do$
"""
COLUMNS = {
    m.Award: ("clearing_id", "demand_id", "bid_id", "start_slot", "end_slot", "units", "slot_prices_micros",
              "amount_micros"),
    m.Device: ("node_class_id", "key_sha256", "label", "enrolled_at"),
    m.Party: ("slug", "name", "kind", "country", "parent_country", "registered_at"),
}  # fmt: skip


def insert_of(table: type[Any]) -> str:
    """The statement that writes a row of the table out of one JSON object."""
    name = table._meta.db_table
    columns = ", ".join(("id", *COLUMNS[table]))
    return f"INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{name}, $1)"


def by_sql(role: str, attempts: list[Attempt]) -> list[str]:
    """Every attempt as an INSERT of its own, each in its own subtransaction, over a connection of that role."""
    entry = postgres.django_database(name=connection.settings_dict["NAME"], role=role)
    entry["OPTIONS"].pop("pool", None)
    told = [[insert_of(each.table), {"id": str(uuid7(clock.now())), **each.row}] for each in attempts]
    with psycopg.connect(**postgres.psycopg_fields(entry)) as raw:
        owner = raw.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'marketplace_award'").fetchone()
        me = raw.execute("SELECT current_user").fetchone()
        assert (me == owner) == (role == "owner")  # each route has its own rights
        raw.execute("SELECT set_config('grove.attempts', %s, false)", [json.dumps(told, default=as_sql)])
        raw.execute(TRY)
        found = raw.execute("SELECT current_setting('grove.found')").fetchone()
        raw.rollback()
    assert found is not None
    return list(json.loads(found[0]))


def as_sql(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def feasible_pairs(market: Market) -> set[tuple[str, str]]:
    """What the service that clears calls feasible: demand and bid by their references."""
    window = m.Window.objects.get(name=refused_market.NAME)
    rows = m.Demand.objects.filter(window=window)
    demands = list(rows.select_related("party__parent", "zone", "control_zone", "sla", "data_class"))
    placed = [bid for bid in cleared_bids(window) if bid.reference not in market.refused]
    book, lines = make_window_book(window, demands, placed)
    found = match_lines(book)
    return {
        (lines.demands[d].reference, lines.bids[b].reference)
        for i, d in enumerate(book.demands.ids) if found.mask_of_demand[i] >= 0
        for j, b in enumerate(book.bids.ids)
        if found.accepts[found.mask_of_demand[i], found.signature_of_bid[j]]
    }  # fmt: skip


def is_refused(attempt: Attempt, rule: str) -> bool:
    """Refused by one of the rules that this attempt breaks: refused for another reason is no proof."""
    return rule in set().union(*(RULES[wrong] for wrong in attempt.wrong))


def test_a_thousand_non_compliant_attempts_by_each_route_are_refused(own_world: Callable[[str], str]) -> None:
    own_world("founded")
    market = refused_market.build(SEED)
    draws, feasible = Draws(market), feasible_pairs(market)
    good = [draws.award(*pair) for pair in market.compliant()]
    assert len(good) > 40
    assert {market.facts[reference].kept for reference in market.refused} == set(refused_market.KEPT)

    service = by_service(draws, feasible)
    assert [each for each in draws.some("service") if not service(each)] == []
    for route, attempts, found in (
        ("ORM", some := draws.some("orm"), [each.by_orm() for each in some]),
        ("SQL as product", some := draws.some("product"), by_sql("product", some)),
        ("SQL as owner", some := draws.some("owner"), by_sql("owner", some)),
    ):
        assert len(found) == ATTEMPTS
        assert [pair for pair in zip(attempts, found, strict=True) if not is_refused(*pair)] == [], route
        alone = Counter(each.wrong[0] for each in attempts if len(each.wrong) == 1)
        assert set(alone) == set(RULES)  # each fault, alone, was refused some times
        print(route, "refused, with nothing else wrong:", dict(alone.most_common()))
    contract = outside_rules.attempt(World.market(), ATTEMPTS)
    assert (contract.accepted, contract.locked_by_bad, contract.told) == (0, 0, outside_rules.SENTENCES)
    assert (contract.good_accepted, contract.locked_by_good) == (60, 60 * USD)

    # Every good pair is feasible, and by each route it is taken.
    assert feasible == {each.pair for each in good}
    assert {each.by_orm() for each in good} == set(by_sql("product", good)) == set(by_sql("owner", good)) == {""}
    print(f"{ATTEMPTS} attempts by each of service, ORM, SQL, contract: 0 accepted; {len(good)} good pairs and "
          f"{contract.good} good locks taken")  # fmt: skip
    assert_feasible_as_judged(market)
    # What was cleared is compliant although the unfit asked least.
    served = set(m.Award.objects.filter(clearing=draws.clearing).values_list("demand__reference", "bid__reference"))
    assert served
    assert all(is_compliant(market.wishes[d], market.facts[b]) for d, b in served)
    for forged, (wish, fact) in examples(market.compliant()).items():
        assert draws.award(wish, fact).by_orm() == ""
        with transaction.atomic():
            FORGERIES[forged](wish, fact)
            assert draws.award(wish, fact).by_orm().startswith("award_"), forged  # it looks at facts, not at the result
            transaction.set_rollback(True)


RULE_OF = {"control": "control_zone", "no proof of control": "control_evidence", "change of owner": "owner",
           "no proof of a control": "controls"}  # fmt: skip


def assert_feasible_as_judged(market: Market) -> None:
    """The answer to "who could serve it" is the judge's for every demand: counts, and the rule that removes most."""
    demands = m.Demand.objects.filter(reference__in=market.wishes, window__name=refused_market.NAME)
    rows = demands.select_related("party__parent", "window", "zone", "control_zone", "data_class")
    unseen(m.NodeClass.objects.exclude(site__code__in=market.facts), retired_at=clock.now())  # the world's own
    for demand in rows:
        wish = market.wishes[demand.reference]
        broken = [{RULE_OF.get(each, each) for each in faults(wish, fact)} - set(refused_market.KEPT)
                  for fact in market.facts.values()]  # fmt: skip
        found = feasibility_of(demand)
        assert (found.proven, found.waiting) == (sum(not rules for rules in broken), 0), wish
        gains = Counter(next(iter(rules)) for rules in broken if len(rules) == 1)
        assert found.removes == max(gains.values(), default=0), wish
        assert gains[found.rule] == found.removes


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
