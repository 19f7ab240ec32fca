"""A market of random demands and random machines, and a plain judge of every pair that knows none of our code.

`build` makes it through the services: 48 demands under random rules, 40 node classes under random facts, one cleared
window. What the judge finds wrong with a pair is worked out from the draws alone. What no service lets into the window
(a bid on units that are carved out or that a grant keeps) is written in afterwards by force, so that the other routes
have a bid to name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.capacity.services import Times, add_funding_source, set_carve_out, tag_funding
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.compliance.agreements import propose_agreement, sign_agreement
from marketplace.compliance.evidence import end_evidence, review_evidence, submit_evidence
from marketplace.compliance.incidents import open_incident
from marketplace.compliance.papers import Paper
from marketplace.demand.services import fund_demand, post_demand
from marketplace.demo.papers import reviewer_seat, show_controls
from marketplace.errors import CapacityReserved, PriceOutOfRange
from marketplace.parties.services import make_seat, register_party, set_owner
from marketplace.supply.admissions import delivery_month
from marketplace.supply.bids import place_bid
from marketplace.supply.services import enrol_node_class, register_site
from tests.journey import world
from tests.owner import behind_the_triggers

MEMBERS = {"EU": ("DE", "FR", "IT"), "US": ("US",)}
COUNTRIES = ("DE", "FR", "IT", "US", "US", "CH")
CLASSES = ("H100", "A100")
BUYERS = ("alder", "birch", "cedar")
OWNERS_COUNTRY = "DE"  # of alder, which owns some of the providers
DEMANDS, MACHINES = 48, 40
NAME = "Random window"
SLOTS, STARTS_IN = 2, timedelta(days=5)
# What data asks for: the least tier, further controls, whether an agreement of both.
DATA = {"regulated-health": (2, (), True), "payment-card": (2, ("pci-scope",), False),
        "export-controlled": (3, ("export-control",), False)}  # fmt: skip
SHOWN_FROM_TIER = {"encryption-at-rest": 1, "single-tenant": 3}
FURTHER = ("pci-scope", "export-control")
UNITS, PAID_MICROS = 4, 9_000
KEPT = ("carve-out", "forbidden grant", "full cost")  # why all units of a machine are not sold, or not at that price


@dataclass(frozen=True)
class Wish:
    """The rules of one demand."""

    reference: str
    buyer: str
    classes: tuple[str, ...]
    zone: str | None
    control_zone: str | None
    tier_min: int
    latency_ms_max: int | None
    data: str | None
    controls: tuple[str, ...]  # asked for beside those of tier and data

    @property
    def is_health(self) -> bool:
        """It needs a signed agreement with the buyer, for research."""
        return self.data is not None and DATA[self.data][2]


@dataclass(frozen=True)
class Fact:
    """What is true of one node class. `tier` is what its evidence shows, `claimed` what its provider says.

    `parent_country` is that of the owner at the top; a class below a holding carries another one itself.
    """

    reference: str
    resource_class: str
    country: str
    parent_country: str
    operator_country: str
    keys_country: str
    tier: int
    claimed: int
    rtt_ms: int | None
    shows_control: bool  # evidence of who owns, runs and keys it
    shows: frozenset[str]  # further controls
    papers_lapse: bool  # all its evidence ends inside the window
    signed_with: frozenset[str]  # buyers
    lapsing_with: frozenset[str]  # of them those whose agreement ends inside the window
    below: str  # a holding, or the buyer that owns it; empty: nobody
    is_frozen: bool  # by an incident, once its bid stands
    kept: str = ""  # one of KEPT
    sold_to: str = ""  # the buyer that buys its owner, once its bid stands

    @property
    def parent_now(self) -> str:
        """Where the owner at the top sits while the market clears."""
        return world.BUYERS[self.sold_to] if self.sold_to else self.parent_country

    @property
    def tier_held(self) -> int:
        """The tier that it may serve through the whole window."""
        return 0 if self.papers_lapse else min(self.tier, self.claimed)

    def holds(self, control: str) -> bool:
        """Whether evidence shows the control through the whole window."""
        if self.papers_lapse:
            return False
        return control in self.shows or self.tier >= SHOWN_FROM_TIER.get(control, 9)


def faults(wish: Wish, fact: Fact) -> Iterator[str]:
    """What is wrong with serving the demand by these machines, in plain words; nothing when they may serve it."""
    allowed = MEMBERS.get(wish.zone or "", COUNTRIES)
    controlled = MEMBERS.get(wish.control_zone or "", COUNTRIES)
    tier_min, further, _ = DATA[wish.data] if wish.data else (0, (), False)
    if fact.resource_class not in wish.classes:
        yield "class"
    if fact.country not in allowed:
        yield "zone"
    if any(each not in controlled for each in (fact.parent_now, fact.operator_country, fact.keys_country)):
        yield "control"
    shown = fact.shows_control and not fact.papers_lapse and fact.parent_now == fact.parent_country
    if wish.control_zone is not None and not shown:
        yield "no proof of control"
    if fact.tier_held < max(wish.tier_min, tier_min):
        yield "tier"
    if not all(fact.holds(control) for control in (*wish.controls, *further)):
        yield "no proof of a control"
    if wish.is_health and wish.buyer not in fact.signed_with - fact.lapsing_with:
        yield "agreement"
    if wish.buyer == fact.below:
        yield "owner"
    if wish.buyer == fact.sold_to:
        yield "change of owner"
    if fact.is_frozen:
        yield "incident"
    if wish.latency_ms_max is not None and (fact.rtt_ms is None or fact.rtt_ms > wish.latency_ms_max):
        yield "latency"
    if fact.kept:
        yield fact.kept


def is_compliant(wish: Wish, fact: Fact) -> bool:
    """Whether the machines may serve the demand."""
    return not any(faults(wish, fact))


@dataclass(frozen=True)
class Market:
    """The draws, and the row behind each."""

    wishes: dict[str, Wish]
    facts: dict[str, Fact]
    refused: frozenset[str] = frozenset()  # machines whose bid the service did not take

    def pairs(self) -> list[tuple[Wish, Fact]]:
        return list(product(self.wishes.values(), self.facts.values()))

    def non_compliant(self) -> list[tuple[Wish, Fact]]:
        return [pair for pair in self.pairs() if not is_compliant(*pair)]

    def compliant(self) -> list[tuple[Wish, Fact]]:
        return [pair for pair in self.pairs() if is_compliant(*pair)]


def draw(seed: int) -> Market:
    """Random rules against random facts; about one pair in fifteen is compliant."""
    rng = random.Random(seed)
    wishes = {}
    for n in range(DEMANDS):
        data = rng.choice((None, None, None, None, "regulated-health", "regulated-health", *DATA))
        wishes[f"wish-{n}"] = Wish(
            f"wish-{n}", rng.choice(BUYERS), rng.choice((("H100",), ("A100",), CLASSES)),
            rng.choice((None, "EU", "EU", "US")), rng.choice((None, None, "EU", "US")),
            DATA[data][0] if data else rng.choice((0, 1, 2, 3)), rng.choice((None, None, 10, 30)), data,
            rng.choice(((), (), (), ("pci-scope",), ("encryption-at-rest",), ("single-tenant",))),
        )  # fmt: skip
    facts = {}
    for n in range(MACHINES):
        home = rng.choice(COUNTRIES)
        strays = [rng.choice((home, home, home, rng.choice(COUNTRIES))) for _ in range(3)]
        below = rng.choice(("", "", "", "", "holding", "holding", "alder"))
        if below:
            strays[0] = OWNERS_COUNTRY if below == "alder" else rng.choice(COUNTRIES)
        signed = frozenset(buyer for buyer in BUYERS if rng.random() < 0.6)
        facts[f"random-{n}"] = Fact(
            f"random-{n}", rng.choice(CLASSES), home, *strays, rng.choice((0, 1, 2, 3, 3)), rng.choice((3, 3, 3, 2)),
            rng.choice((None, 5, 20, 90)), rng.random() < 0.8,
            frozenset(control for control in FURTHER if rng.random() < 0.6), rng.random() < 0.12, signed,
            frozenset(buyer for buyer in sorted(signed) if rng.random() < 0.25), below, rng.random() < 0.08,
            rng.choice(KEPT) if rng.random() < 0.25 else "", "" if below else rng.choice(("", "", "", "", *BUYERS)),
        )
    return Market(wishes, facts)


def build(seed: int) -> Market:
    """Play the draws to a cleared window through the services, with the cheapest asks on the least fit machines."""
    market = draw(seed)
    classes = {fact.reference: _enrol(fact) for fact in market.facts.values()}
    window = _open()
    for wish in market.wishes.values():
        demand = post_demand(
            party=world.party(wish.buyer), window=window, reference=wish.reference, kind="divisible",
            accepted_classes=list(wish.classes), quantity_units=1, start_slot=0, end_slot=2, price_limit_micros=9_000,
            sla_code="99.0", zone_code=wish.zone, control_zone_code=wish.control_zone, tier_min=wish.tier_min,
            vantage_code="ams" if wish.latency_ms_max else None, latency_ms_max=wish.latency_ms_max, now=clock.now(),
            data_class=wish.data, purpose="research" if wish.is_health else None,
            required_controls=list(wish.controls),
        )  # fmt: skip
        fund_demand(demand=demand, party=demand.party, now=clock.now())
    judge_gate(window=window, now=clock.move_to(window.demand_closes_at))
    keep_units(market, classes, window)
    refused = frozenset(fact.reference for fact in market.facts.values() if not _bids(fact, classes, window))
    for fact in market.facts.values():
        if fact.is_frozen:
            open_incident(seat=reviewer_seat(clock.now()), title="for the test", party=classes[fact.reference].party,
                          discovered_at=clock.now(), freeze=True, reason="for the test", now=clock.now())  # fmt: skip
        if fact.sold_to:
            set_owner(party=classes[fact.reference].party, parent=world.party(fact.sold_to), actor="test",
                      now=clock.now())  # fmt: skip
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    clear_window(window=window, now=clock.now())
    for reference in sorted(refused):
        _bid_by_force(classes[reference], window)
    return replace(market, refused=refused)


def keep_units(market: Market, classes: dict[str, m.NodeClass], window: m.Window) -> None:
    """Carve out, or tag with its grant, every unit that is not for sale."""
    now, times = clock.now(), Times(window.starts_at, window.ends_at)
    prices = {"forbidden grant": {}, "full cost": {"floor_micros": PAID_MICROS + 100, "ceiling_micros": 10**6}}
    for code, policy in (("forbidden-grant", "forbidden"), ("full-cost", "cost_recovery")):
        add_funding_source(seat=reviewer_seat(now), code=code, name=code, policy=policy, source="for the test", now=now)
    for fact in market.facts.values():
        if not fact.kept:
            continue
        row = classes[fact.reference]
        seat = make_seat(party=row.party, email=f"keeps@{row.party.slug}.example", password=None, role="operator",
                         now=now)  # fmt: skip
        units = {"seat": seat, "node_class": row, "units": UNITS, "times": times, "now": now}
        if fact.kept == "carve-out":
            set_carve_out(**units, purpose="own research")
        else:
            tag_funding(**units, source_code=fact.kept.replace(" ", "-"), **prices[fact.kept])


def _bids(fact: Fact, classes: dict[str, m.NodeClass], window: m.Window) -> bool:
    """Let the machines in and have them bid; False when the service refuses what is not for sale."""
    row = classes[fact.reference]
    _let_in(row, window)
    try:
        place_bid(
            party=row.party, node_class=row, window=window, reference=fact.reference, quantity_units=UNITS,
            start_slot=0, end_slot=SLOTS, sla_code="99.0",
            price_ask_micros=100 * (1 + 5 * fact.tier + (20 if fact.country in MEMBERS["EU"] else 0)), now=clock.now(),
        )  # fmt: skip
    except (CapacityReserved, PriceOutOfRange):
        return False
    return True


def _bid_by_force(row: m.NodeClass, window: m.Window) -> None:
    with behind_the_triggers():
        m.Bid.objects.create(
            id=uuid7(clock.now()), window=window, party=row.party, node_class=row, reference=row.site.code,
            state="lost", quantity_units=UNITS, start_slot=0, end_slot=SLOTS, price_ask_micros=100, minimum_units=0,
            sla_id="99.0", sla_targets={}, accepted_rank=10_000 + row.chain_class, placed_at=clock.now(),
        )  # fmt: skip


def _let_in(node_class: m.NodeClass, window: m.Window) -> None:
    """Whether demand covers the capacity is no question here, and much of this capacity suits no demand at all."""
    with behind_the_triggers():
        m.Admission.objects.create(
            id=uuid7(clock.now()), node_class=node_class, month=delivery_month(window), zone="EU", unit_hours=8,
            state="ADMITTED", asked_at=clock.now(), decided_at=clock.now(),
        )  # fmt: skip


def _open() -> m.Window:
    starts_at = clock.now() + STARTS_IN
    return open_window(
        name=NAME, slots=SLOTS, starts_at=starts_at, demand_closes_at=starts_at - timedelta(days=3),
        no_cancel_from=starts_at - timedelta(days=2), bidding_closes_at=starts_at - timedelta(days=1),
        gate_unit_hours=1, gate_parties=1, concentration_ppm=None, now=clock.now(),
    )  # fmt: skip


def _enrol(fact: Fact) -> m.NodeClass:
    owner = _register(fact)
    site = register_site(
        party=owner, code=fact.reference, city="Somewhere", country=fact.country,
        operator_country=fact.operator_country, keys_country=fact.keys_country, lat=50.0, lon=8.0,
        rtt_ms_p95={} if fact.rtt_ms is None else {"ams": (fact.rtt_ms, "measured")}, now=clock.now(),
    )  # fmt: skip
    late, inside = clock.now() + timedelta(days=90), clock.now() + STARTS_IN + timedelta(hours=1)
    until = inside if fact.papers_lapse else late
    show_controls(site=site, tier=fact.tier, valid_until=until, now=clock.now())
    for control in sorted(fact.shows):
        _show(owner, control, until)
    if not fact.shows_control:
        shown = m.Evidence.objects.get(party=owner, control_id="ultimate-parent")
        end_evidence(evidence=shown, seat=shown.seat, reason="taken back", now=clock.now())
    for buyer in sorted(fact.signed_with):
        _sign(world.party(buyer), owner, inside if buyer in fact.lapsing_with else late)
    node_class = enrol_node_class(party=owner, site=site, resource_class_code=fact.resource_class, units=4,
                                  tier=fact.claimed, claimed_name="c", now=clock.now())  # fmt: skip
    proof = {"proven_at": clock.now(), "proven_until": clock.now() + timedelta(days=90)}
    with behind_the_triggers():  # the path to PROVEN is tested elsewhere
        m.Standing.objects.filter(pk=node_class.pk).update(state="PROVEN", **proof)
    node_class.refresh_from_db()
    return node_class


def _register(fact: Fact) -> m.Party:
    """The provider, alone, below the buyer that owns it, or below a holding whose seat is not the one it tells."""
    facts = {"kind": "enterprise", "country": fact.country, "now": clock.now()}
    if fact.below != "holding":
        above = world.party(fact.below) if fact.below else None
        return register_party(slug=fact.reference, name=fact.reference, parent_country=fact.parent_country,
                              parent=above, **facts)  # fmt: skip
    top = register_party(slug=f"{fact.reference}-top", name="Holding", parent_country=fact.country, **facts)
    owner = register_party(slug=fact.reference, name=fact.reference, parent_country=fact.country, parent=top, **facts)
    m.Party.objects.filter(pk=top.pk).update(parent_country=fact.parent_country)
    return m.Party.objects.select_related("parent").get(pk=owner.pk)


def _show(owner: m.Party, control: str, until: datetime) -> None:
    now = clock.now()
    seat = make_seat(party=owner, email=f"papers@{owner.slug}.example", password=None, role="compliance", now=now)
    shown = submit_evidence(seat=seat, control_code=control, paper=Paper(f"{control}.txt", b"for the test", now, until),
                            issuer="Demo issuer", country="", now=now)  # fmt: skip
    review_evidence(evidence=shown, seat=reviewer_seat(now), is_accepted=True, reason="looked at", now=now)


def _sign(buyer: m.Party, provider: m.Party, until: datetime) -> None:
    now = clock.now()
    seats = [make_seat(party=each, email=f"owner@{each.slug}.example", password=None, role="owner", now=now)
             for each in (buyer, provider)]  # fmt: skip
    agreement = propose_agreement(
        seat=seats[0], other=provider, control_code="baa", purposes=["research"], now=now,
        paper=Paper("baa.pdf", b"signed for the test", now, until),
    )  # fmt: skip
    for each in seats:
        sign_agreement(agreement=agreement, seat=each, title="Director", now=now)
