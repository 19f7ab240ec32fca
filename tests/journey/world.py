"""A market small enough to be read: four buyers, six node classes, eight demands, thirty slots.

`ACTS` plays it through the real services, in data-path order, on PostgreSQL and the embedded chain. Each act may be
played again and then changes nothing, so a world that was killed half way is played on from where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum

from ledger.models import ChainEvent, ChainIntent
from ledger.rails import sender
from ledger.rails.deploy import ensure_deployed
from ledger.rails.mirror import read_words
from ledger.selectors import total
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.compliance.catalogue import ensure_catalogue
from marketplace.delivery.services import close_delivery
from marketplace.demand.services import fund_demand, post_demand
from marketplace.demo import world as w
from marketplace.demo.keys import machine_key
from marketplace.demo.machines import BASELINE, CHALLENGE, call_all_machines, prove, seat_demo_panel
from marketplace.demo.minutes import report_window
from marketplace.demo.papers import show_controls
from marketplace.escrow.services import confirm_locks, deposit_funds, lock_window
from marketplace.governance.phases import Count, keep_evidence, open_phase, sign_phase
from marketplace.governance.services import set_flag
from marketplace.parties.services import make_seat, register_party
from marketplace.payout.services import confirm_payouts, confirm_settlements, pay_window, settle_window
from marketplace.sla.services import judge_window
from marketplace.slashing.services import confirm_requests, open_cases, request_args
from marketplace.supply.admissions import admit, ask_admission, delivery_month, free_unit_hours
from marketplace.supply.bids import place_bid
from marketplace.supply.onchain import attest_class, deposit_stake, submit_proof
from marketplace.supply.services import enrol_node_class, register_site
from marketplace.supply.standing import advance_standing, record_checks, restore

USD = 1_000_000
SLOTS = 30
EARLY, MAIN = "Early window", "Main window"
SIGNERS = ("one@foundation.example", "two@foundation.example")
PHASE_CONDITIONS = {2: ("funded_enterprises", "needs_recorded", "price_curves"), 3: ("proven_universities",)}
SEED = 1
EVERYWHERE = ("2000-01-01", None)
ZONES = {"EU": ("DE", "FR", "IT"), "US": ("US",), "OLD": ()}  # OLD lost its last member long ago
STAKE_MICROS, EXPOSURE_MICROS = 1_000 * USD, 5_000 * USD


@dataclass(frozen=True)
class Machines:
    """One provider with one node class."""

    code: str
    country: str
    resource_class: str
    units: int
    tier: int
    standing: str
    rtt_ms: int  # from the vantage in Amsterdam


@dataclass(frozen=True)
class Order:
    """One demand: its rules, and how it is paid for (`now`, `late` or `never`)."""

    reference: str
    buyer: str
    kind: str
    units: int
    slots: tuple[int, int]
    limit: int  # micro-USD per unit-hour
    rules: dict[str, Any]
    funded: str = "now"
    resource_class: str = "H100"


@dataclass(frozen=True)
class Offer:
    """One bid."""

    provider: str
    units: int
    slots: tuple[int, int]
    ask: int  # micro-USD per unit-hour


BUYERS = {"alder": "DE", "birch": "FR", "cedar": "US", "elm": "DE"}
MACHINES = (
    Machines("granite", "DE", "H100", 8, 2, "PROVEN", 12),  # proven, warned once, down again
    Machines("basalt", "DE", "H100", 40, 1, "PROBATION", 4),  # its unproven twin
    Machines("harbour", "FR", "H100", 16, 1, "PROVEN", 14),  # never fails
    Machines("prairie", "US", "H100", 16, 2, "PROVEN", 95),  # the cheapest by far, outside the EU
    Machines("fjord", "FR", "A100", 8, 1, "PROVEN", 16),  # asks more than anybody pays
    Machines("sprout", "IT", "H100", 4, 1, "REGISTERED", 20),  # has proven nothing yet
)
EARLY_ORDERS = (
    Order("genome-0", "alder", "window", 4, (0, SLOTS), 3_000_000, {"zone_code": "EU", "tier_min": 2}),
    Order("climate-0", "birch", "divisible", 2, (0, SLOTS), 2_500_000, {"zone_code": "EU"}),
    Order("render-0", "cedar", "divisible", 2, (0, SLOTS), 2_000_000, {"zone_code": "US"}),
)
EARLY_OFFERS = (
    Offer("granite", 4, (0, SLOTS), 1_500_000),
    Offer("harbour", 8, (0, SLOTS), 1_600_000),
    Offer("prairie", 8, (0, SLOTS), 400_000),
)
ORDERS = (
    Order("genome", "alder", "window", 4, (0, SLOTS), 3_000_000, {"zone_code": "EU", "tier_min": 2}),
    Order("imaging", "birch", "window", 2, (2, 26), 3_000_000,
          {"zone_code": "EU", "vantage_code": "ams", "latency_ms_max": 5}),
    Order("climate", "birch", "divisible", 6, (0, SLOTS), 2_500_000, {"zone_code": "EU"}),
    Order("render", "cedar", "divisible", 4, (0, SLOTS), 2_000_000, {"zone_code": "US"}),
    Order("tardy", "elm", "divisible", 4, (0, SLOTS), 2_600_000, {"zone_code": "EU"}, "late"),
    Order("hope", "elm", "divisible", 1, (0, 5), 2_600_000, {"zone_code": "EU"}, "never"),
    Order("bargain", "cedar", "divisible", 2, (0, SLOTS), 2_000_000, {}, "now", "A100"),
    Order("sovereign", "alder", "divisible", 2, (5, 15), 2_400_000, {"control_zone_code": "EU"}),
)  # fmt: skip
OFFERS = (
    Offer("granite", 4, (0, SLOTS), 1_500_000),
    Offer("basalt", 2, (2, 26), 1_400_000),
    Offer("harbour", 16, (0, SLOTS), 1_600_000),
    Offer("prairie", 16, (0, SLOTS), 400_000),
    Offer("fjord", 8, (0, SLOTS), 3_000_000),
)
COVER_PPM = 10**9  # tests add bids of any size; the ratio itself is tried in test_admission
MORE = 5_000  # unit-hours beyond the offers above, for the bids that tests add
GATE_UNIT_HOURS, GATE_PARTIES = 600, 4  # funded: 548 and 3 before the late money, 668 and 4 after it
OUTAGES = tuple(w.Outage(code, "any", 615, 675, units, "power") for code, units in (("granite", 8), ("basalt", 40)))


# --- the acts --------------------------------------------------------------------------------------------------------
def found() -> None:
    """Catalogue, parties, machines; money and stake on chain; two weeks of checks and proofs."""
    now = clock.now()
    _catalogue()
    ensure_catalogue(now=now)
    set_flag(name="prosumer_parties", is_on=False, opens_in_phase=4, actor="foundation", reason="enterprises first",
             now=now)  # fmt: skip
    _open_the_pilot(now)
    for code, country in BUYERS.items():
        register_party(slug=code, name=code.title(), kind="enterprise_buyer", country=country, parent_country=country,
                       now=now)  # fmt: skip
    seat_demo_panel(now=now)
    for each in MACHINES:
        _enrol(each, now)
    ensure_deployed(now)
    for each in MACHINES:
        attest_class(node_class=node_class(each.code), exposure_cap_micros=EXPOSURE_MICROS, nonce=1,
                     expires_at=day(300), now=now)  # fmt: skip
        if each.standing != "REGISTERED":
            deposit_stake(node_class=node_class(each.code), amount_micros=STAKE_MICROS, key=each.code, now=now)
    for code in BUYERS:
        needed = sum(_hold(order) for order in (*EARLY_ORDERS, *ORDERS) if (order.buyer, order.funded) == (code, "now"))
        if needed:
            deposit_funds(party=party(code), amount_micros=needed, key="first", now=now)
    cycle.run_chain(now=now)
    _prove(CHALLENGE, epoch=1, at=day(0, 1), now=clock.move_to(day(0, 2)), standings=("PROVEN", "PROBATION"))
    called = [each.code for each in MACHINES if each.standing != "REGISTERED"]
    call_all_machines([(node_class(code), _described(code)) for code in called], epoch=2, at=day(7),
                      now=clock.move_to(day(7, 1)))  # fmt: skip
    now = clock.move_to(day(14, 4))
    for each in MACHINES:
        standing = node_class(each.code).standing
        if each.standing == "PROVEN":
            record_checks(node_class=standing.node_class, passed=313 - standing.checks_passed, failed=0, now=now)
    _prove(BASELINE, epoch=3, at=day(14, 3), now=now, standings=("PROVEN",))


def collect() -> None:
    """An earlier window is played to its end, its outage warns granite; then the main window collects demand."""
    early = _open(EARLY, day(16), gate_unit_hours=100, gate_parties=3)
    _post(early, EARLY_ORDERS)
    cycle.advance(now=clock.move_to(early.demand_closes_at))
    _bid(early, EARLY_OFFERS)
    cycle.advance_until_quiet(now=clock.move_to(early.bidding_closes_at))
    now = clock.move_to(early.ends_at + timedelta(hours=1))
    _report(EARLY, now)
    cycle.advance_until_quiet(now=now)
    now = clock.move_to(early.ends_at + timedelta(hours=60))
    granite = node_class("granite")
    if granite.standing.state == "DEGRADED":
        proof = prove(node_class=granite, world_class=_described("granite"), kind=BASELINE, epoch=4,
                      at=early.ends_at + timedelta(hours=58), now=now)  # fmt: skip
        submit_proof(benchmark=proof, now=now)
        cycle.run_chain(now=now)
        restore(node_class=granite, clean_hours=58, now=now)
    _post(_open(MAIN, day(23), gate_unit_hours=GATE_UNIT_HOURS, gate_parties=GATE_PARTIES), ORDERS)


def take_bids() -> None:
    """Late money makes a demand eligible and the gate opens; providers bid under seal."""
    if window().state == "COLLECTING":
        for order in ORDERS:
            if order.funded == "late":
                deposit_funds(party=party(order.buyer), amount_micros=_hold(order), key="late", now=clock.now())
        cycle.run_chain(now=clock.now())
        for order in ORDERS:
            if order.funded == "late":
                fund_demand(demand=demand(order.reference), party=party(order.buyer), now=clock.now())
    judge_gate(window=window(), now=clock.move_to(window().demand_closes_at))
    _bid(window(), OFFERS)


def clear() -> None:
    """Bidding closes; prices, awards, reasons and the certificate are published."""
    close_bidding(window=window(), now=clock.move_to(window().bidding_closes_at))
    clear_window(window=window(), now=clock.now())
    cycle.run_chain(now=clock.now())


def lock() -> None:
    """Awards become leases and their money is locked on chain."""
    lock_window(window=window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    confirm_locks(window=window(), now=clock.now())


def deliver() -> None:
    """Thirty hours pass; machines report, verifiers probe, two providers lose the same hour."""
    now = clock.move_to(window().ends_at + timedelta(hours=1))
    _report(MAIN, now)
    close_delivery(window=window(), now=now)


def judge() -> None:
    """Every lease gets its verdict, and a broken one its credit."""
    judge_window(window=window(), now=clock.now())


def pay() -> None:
    """One netted settlement on chain, then the payouts."""
    settle_window(window=window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    confirm_settlements(window=window(), now=clock.now())
    pay_window(window=window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    confirm_payouts(now=clock.now())


def accuse() -> None:
    """The panel asks for granite's stake; somebody brings a verdict against basalt too, and the contract reverts it."""
    open_cases(window=window(), now=clock.now())
    _slash_the_unproven(clock.now())
    cycle.run_chain(now=clock.now())
    confirm_requests(now=clock.now())


def close() -> None:
    """The dispute window passes undisputed, the slash is executed, the books are sealed and compared."""
    cycle.advance_until_quiet(now=clock.move_to(window().ends_at + timedelta(hours=74)))
    cycle.anchor_books(now=clock.now())
    cycle.reconcile(now=clock.now())


def turn() -> None:
    """Everything from the closing of bids to the request to slash, by the cycle alone; the acts between it and `close`
    then find nothing left to do."""
    cycle.advance_until_quiet(now=clock.move_to(window().bidding_closes_at))
    now = clock.move_to(window().ends_at + timedelta(hours=1))
    _report(MAIN, now)
    cycle.advance_until_quiet(now=now)
    _slash_the_unproven(clock.now())
    cycle.advance_until_quiet(now=clock.now())


ACTS: dict[str, Callable[[], None]] = {
    "founded": found, "collecting": collect, "bidding": take_bids, "cleared": clear, "delivering": lock,
    "delivered": deliver, "judged": judge, "paid": pay, "accused": accuse, "closed": close,
}  # fmt: skip
CYCLE_ACTS: dict[str, Callable[[], None]] = {
    "founded": found, "collecting": collect, "bidding": take_bids, "turned": turn, "closed": close,
}  # fmt: skip


def play(until: str = "closed", acts: dict[str, Callable[[], None]] = ACTS) -> None:
    """Play the world of this database on, up to and with one act."""
    run, _ = m.DemoRun.objects.get_or_create(
        id=1, defaults={"seed": SEED, "began_at": clock.now().replace(minute=0, second=0, microsecond=0)}
    )
    names = list(acts)
    for no, name in enumerate(names[: names.index(until) + 1]):
        if run.steps_done <= no:
            acts[name]()
            run.steps_done = no + 1
            run.save(update_fields=["steps_done"])


# --- what tests name -------------------------------------------------------------------------------------------------
def day(days: int, hours: int = 0) -> datetime:
    """A moment of the story, counted from its first hour."""
    began_at: datetime = m.DemoRun.objects.get().began_at
    return began_at + timedelta(days=days, hours=hours)


def party(code: str) -> m.Party:
    return m.Party.objects.get(slug=code)


def node_class(code: str) -> m.NodeClass:
    return m.NodeClass.objects.select_related("standing", "party", "site", "resource_class").get(party__slug=code)


def window(name: str = MAIN) -> m.Window:
    return m.Window.objects.get(name=name)


def demand(reference: str) -> m.Demand:
    return m.Demand.objects.select_related("party", "window").get(reference=reference)


def bid(provider: str, name: str = MAIN) -> m.Bid:
    return m.Bid.objects.select_related("party", "window").get(party__slug=provider, window__name=name)


def lease(reference: str) -> m.Lease:
    """The only lease of a demand, beside what a backup took over of it."""
    rows = m.Lease.objects.select_related("verdict__credit", "node_class", "buyer")
    return rows.get(demand__reference=reference, step_in=None)


def figures() -> dict[str, Any]:
    """What the world came to, in figures that no time and no id enters. Money in micro-USD."""
    words = read_words()
    cases = m.SlashCase.objects.order_by("verdict__lease__demand__reference")
    return {
        "states": {each.name: each.state for each in m.Window.objects.all()},
        "demands": dict(m.Demand.objects.values_list("reference", "state")),
        "bids": m.Bid.objects.count(),
        "welfare": dict(m.Clearing.objects.values_list("window__name", "welfare_micros")),
        "awards": sorted(m.Award.objects.values_list("demand__reference", "bid__reference", "units", "amount_micros")),
        "reasons": sorted(m.LineReason.objects.values_list("demand__reference", "bid__reference", "code").iterator(),
                          key=str),
        "leases": dict(m.Lease.objects.values_list("state").annotate(total=Sum("fee_micros"))),
        "readings": [m.Reading.objects.count(), _sum(m.Reading, "earned_micros")],
        "credits": sorted(m.Credit.objects.values_list("verdict__lease__demand__reference", "amount_micros")),
        "settled": sorted(m.SettlementLine.objects.values_list("lease__demand__reference", "payable_micros",
                                                               "holdback_micros", "fee_micros", "returned_micros")),
        "payouts": sorted(m.Payout.objects.values_list("node_class__party__slug", "window__name", "amount_micros")),
        "cases": list(cases.values_list("verdict__lease__demand__reference", "outcome", "amount_micros",
                                        "forfeit_micros", "to_buyer_micros")),
        "escrow": [total("chain.escrow").minor, words.escrow_balance],
        "stakes": [total("chain.stake").minor, words.stake_balance],
        "fees": [total("foundation.fees").minor, words.fees],
        "buyers": {party_of(id): [free, locked] for id, (free, locked) in words.buyers.items()},
        "paid_on_chain": sum(int(event.args["amount"]) for event in ChainEvent.objects.filter(name="PaidOut")),
        "intents": dict(sorted(_count(ChainIntent.objects.values_list("function", "state")).items())),
        # A turn that was killed may close the same deliveries in more than one call, each with its own line.
        "trail": dict(
            sorted(_count(m.AuditLine.objects.exclude(action="close_delivery").values_list("action")).items())
        ),
    }  # fmt: skip


def party_of(id: Any) -> str:
    return m.Party.objects.get(pk=id).slug


# --- the hands behind the acts ---------------------------------------------------------------------------------------
def _catalogue() -> None:
    for code, ops, price in (("A100", 300 * 10**12, 1_200_000), ("H100", 900 * 10**12, 2_000_000)):
        m.ResourceClass.objects.get_or_create(code=code, defaults={
            "name": code, "ops_per_sec": ops, "mem_bytes": 80 * 10**9, "mem_bytes_per_sec": 3 * 10**12,
            "reference_price_micros": price,
        })  # fmt: skip
    for code, members in ZONES.items():
        zone, _ = m.Zone.objects.get_or_create(code=code, defaults={"name": code, "source": "made for the tests"})
        for country in members:
            m.ZoneMember.objects.get_or_create(zone=zone, country=country, valid_from="2000-01-01")
    m.ZoneMember.objects.get_or_create(zone_id="OLD", country="SU", valid_from="1950-01-01", valid_until="1991-12-26")
    for level in range(4):
        m.Tier.objects.get_or_create(level=level, defaults={"name": f"T{level}"})
    for code, bps in (("99.0", 9900), ("99.5", 9950)):
        m.SlaPreset.objects.get_or_create(code=code, defaults={"availability_bps": bps})
    place = {"city": "Amsterdam", "country": "NL", "lat": 52.4, "lon": 4.9}
    m.Vantage.objects.get_or_create(code="ams", defaults=place)


def _open_the_pilot(now: datetime) -> None:
    """Bring this market into phase 3, on figures that are handed in: what is played here is a market window."""
    house = register_party(slug="foundation", name="Foundation", kind="foundation", country="CH", parent_country="CH",
                           now=now)  # fmt: skip
    for person in SIGNERS:
        make_seat(party=house, email=person, password=None, role="operations", now=now)
    for no, codes in PHASE_CONDITIONS.items():
        counts = {code: Count(99, "handed in by the tests") for code in codes}
        for person in SIGNERS:
            digest = bytes(keep_evidence(no=no, counts=counts, now=now).hash)
            sign_phase(no=no, evidence_hash=digest, counts=counts, person=person, now=now)
        open_phase(no=no, counts=counts, person=SIGNERS[0], now=now)


def _enrol(each: Machines, now: datetime) -> None:
    owner = register_party(slug=each.code, name=each.code.title(), kind="university", country=each.country,
                           parent_country=each.country, now=now)  # fmt: skip
    site = register_site(
        party=owner, code=f"{each.code}-1", city=each.code.title(), country=each.country,
        operator_country=each.country, keys_country=each.country, lat=50.0, lon=8.0,
        rtt_ms_p95={"ams": (each.rtt_ms, "measured")}, now=now,
    )  # fmt: skip
    show_controls(site=site, tier=each.tier, valid_until=now + timedelta(days=365), now=now)
    enrol_node_class(
        party=owner, site=site, resource_class_code=each.resource_class, units=each.units, tier=each.tier,
        claimed_name=each.resource_class, machine_key=machine_key(each.code).public_bytes, now=now,
    )  # fmt: skip


def _described(code: str) -> w.NodeClass:
    each = next(each for each in MACHINES if each.code == code)
    reference = m.ResourceClass.objects.get(pk=each.resource_class)
    return w.NodeClass(
        code=code, resource_class=each.resource_class, units=each.units, standing=each.standing,
        ops_per_second=reference.ops_per_sec, memory_bytes=reference.mem_bytes,
        bandwidth_bytes_per_second=reference.mem_bytes_per_sec, availability_ppm=999_000, benchmark_simulated=True,
    )  # fmt: skip


def _prove(kind: int, *, epoch: int, at: datetime, now: datetime, standings: tuple[str, ...]) -> None:
    chosen = [each.code for each in MACHINES if each.standing in standings]
    for code in chosen:
        proof = prove(node_class=node_class(code), world_class=_described(code), kind=kind, epoch=epoch, at=at, now=now)
        submit_proof(benchmark=proof, now=now)
    cycle.run_chain(now=now)
    for code in chosen:
        advance_standing(node_class=node_class(code), now=now)


def _open(name: str, starts_at: datetime, *, gate_unit_hours: int, gate_parties: int) -> m.Window:
    return open_window(
        name=name, slots=SLOTS, starts_at=starts_at, demand_closes_at=starts_at - timedelta(hours=24),
        no_cancel_from=starts_at - timedelta(hours=18), bidding_closes_at=starts_at - timedelta(hours=12),
        gate_unit_hours=gate_unit_hours, gate_parties=gate_parties, cover_ppm=COVER_PPM, salt=name, now=clock.now(),
    )  # fmt: skip


def _hold(order: Order) -> int:
    return order.units * (order.slots[1] - order.slots[0]) * order.limit


def _post(into: m.Window, orders: tuple[Order, ...]) -> None:
    if window(into.name).state != "COLLECTING":
        return
    for order in orders:
        row = post_demand(
            party=party(order.buyer), window=into, reference=order.reference, kind=order.kind,
            accepted_classes=[order.resource_class], quantity_units=order.units, start_slot=order.slots[0],
            end_slot=order.slots[1], price_limit_micros=order.limit, sla_code="99.0", **order.rules, now=clock.now(),
        )  # fmt: skip
        if order.funded == "now":
            fund_demand(demand=row, party=row.party, now=clock.now())


def _bid(into: m.Window, offers: tuple[Offer, ...]) -> None:
    if window(into.name).state != "BIDDING":
        return
    for offer in offers:
        more = MORE if into.name == MAIN else 0
        if not m.Bid.objects.filter(party__slug=offer.provider, window=into).exists():
            let_in(offer.provider, into, offer.units * (offer.slots[1] - offer.slots[0]) + more)
        place_bid(
            party=party(offer.provider), node_class=node_class(offer.provider), window=into,
            reference=f"{offer.provider} {into.name}", quantity_units=offer.units, start_slot=offer.slots[0],
            end_slot=offer.slots[1], price_ask_micros=offer.ask, sla_code="99.0", now=clock.now(),
        )  # fmt: skip


def let_in(provider: str, into: m.Window, unit_hours: int) -> None:
    """Let a provider in, so that it may offer so many unit-hours in the month of a window."""
    row, month = node_class(provider), delivery_month(into)
    missing = unit_hours - free_unit_hours(node_class=row, month=month)
    if missing > 0:
        asked = ask_admission(party=row.party, node_class=row, month=month, unit_hours=missing, now=clock.now())
        admit(admission=asked, now=clock.now())


def _report(name: str, now: datetime) -> None:
    if window(name).state == "DELIVERING":
        codes = {node_class(each.code).pk: each.code for each in MACHINES}
        report_window(window=window(name), outages=OUTAGES, codes=codes, seed=SEED, now=now)


def _slash_the_unproven(now: datetime) -> None:
    verdict = m.Verdict.objects.select_related("lease__lock_batch", "lease__node_class").get(
        lease__demand__reference="imaging"
    )
    if not ChainIntent.objects.filter(key="slash:imaging").exists():
        sender.submit(
            key="slash:imaging", role="custody", contract="stake", function="request_slash", force_gas=5_000_000,
            args=request_args(verdict=verdict, amount_micros=USD, kind=1, now=now), now=now,
        )  # fmt: skip


def _sum(model: Any, column: str) -> int:
    return int(model.objects.aggregate(total=Sum(column))["total"] or 0)


def _count(rows: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        name = " ".join(row)
        counts[name] = counts.get(name, 0) + 1
    return counts
