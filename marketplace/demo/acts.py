"""What happens in each step of the demo's story. Every act may be played again and then changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction
from django.utils.text import slugify

from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.rails.deploy import ensure_deployed
from marketplace import clock, cycle
from marketplace.catalogue.models import ResourceClass, SlaPreset, Tier, Vantage, Window, Zone, ZoneMember
from marketplace.catalogue.services import open_window
from marketplace.compliance.catalogue import ensure_catalogue
from marketplace.demand.models import Demand
from marketplace.demand.services import fund_demand, funded_figures, post_demand
from marketplace.demo import world as w
from marketplace.demo.logins import ensure_logins
from marketplace.demo.machines import (
    BASELINE,
    CHALLENGE,
    call_all_machines,
    machine_key,
    prove,
    seat_demo_panel,
)
from marketplace.demo.minutes import report_window
from marketplace.demo.papers import show_controls
from marketplace.demo.worth import SPOKEN_MAX, say_worth
from marketplace.errors import DemandFirst, NotFunded, PhaseClosed
from marketplace.escrow.services import deposit_funds
from marketplace.governance.phases import current_phase, keep_evidence, open_phase, sign_phase
from marketplace.governance.services import set_flag
from marketplace.insights.gates import phase_counts
from marketplace.parties.models import Party
from marketplace.parties.services import make_seat, register_party
from marketplace.sla.models import Verdict
from marketplace.slashing.models import SlashCase
from marketplace.slashing.services import request_args
from marketplace.supply.admissions import admit, ask_admission, delivery_month, free_unit_hours
from marketplace.supply.bids import place_bid
from marketplace.supply.models import Bid, NodeClass
from marketplace.supply.onchain import attest_class, deposit_stake, submit_proof
from marketplace.supply.services import enrol_node_class, register_site
from marketplace.supply.standing import advance_standing, record_checks, restore
from pricing.penalties import exposure_cap_micros, stake_micros

if TYPE_CHECKING:
    from marketplace.demo.story import Story

EARLY, MAIN, NEXT = "Opening window", "Main window", "Next window"
PHASE_SIGNERS = ("first.signer@grove.example", "second.signer@grove.example")
BUYER_KINDS = {"public": "public_buyer", "research": "research_buyer"}
PROVIDER_KINDS = {"lab": "enterprise"}
# A node class is attested for this many times its reference price: prices move, attestations stay.
PRICE_ROOM = 4
ATTESTED_DAYS, EVIDENCE_DAYS = 300, 365
CHECKS_DAY, CHECKS_PROBATION = 24 * 14, 200  # hourly re-checks in two weeks; those on probation have fewer
FORCED_GAS = 5_000_000
AT_ONCE = 64  # demands per import
# In a world this small 3 of 61 products have more machines than twice their demand; the next window has the real ratio.
COVER_PPM = 20_000_000


# --- 1, 2: the market and its money ---
@transaction.atomic  # one commit for some hundred registrations: a person makes one, an import makes all or none
def found_the_market(story: Story) -> None:
    """Catalogue, parties, sites, node classes; prosumers knock and are told that their phase is not open."""
    now, world = clock.now(), story.world
    _fill_catalogue(world)
    ensure_catalogue(now=now)
    set_flag(name="prosumer_parties", is_on=False, opens_in_phase=4, actor="foundation",
             reason="enterprise demand comes first", now=now)  # fmt: skip
    ensure_logins(now)
    seat_demo_panel(now=now)
    for buyer in world.buyers:
        register_party(
            slug=slugify(buyer.name), name=buyer.name, kind=BUYER_KINDS.get(buyer.segment, "enterprise_buyer"),
            country=buyer.country, parent_country=buyer.parent_country, now=now,
        )  # fmt: skip
    refused = 0
    for provider in world.providers:
        try:
            _register_provider(provider, world, now)
        except PhaseClosed:
            refused += 1
    story.note(prosumers_refused_phase_closed=refused)


def bring_money_and_stake(story: Story) -> None:
    """Deploy, attest where machines stand, deposit stakes and the buyers' money."""
    ensure_deployed(clock.now())
    _ask_for_money_and_stake(story, clock.now())
    cycle.run_chain(now=clock.now())


@transaction.atomic
def _ask_for_money_and_stake(story: Story, now: datetime) -> None:
    world = story.world
    for node_class, world_class in _node_classes(world):
        attest_class(
            node_class=node_class, exposure_cap_micros=_exposure_cap(node_class, "PROBATION"), nonce=1,
            expires_at=story.day(ATTESTED_DAYS), now=now,
        )  # fmt: skip
        if world_class.standing != "REGISTERED":
            deposit_stake(node_class=node_class, amount_micros=_stake(node_class), key=f"{world_class.code}:1", now=now)
    needed: dict[str, int] = defaultdict(int)
    for demand in (*world.early_window.demands, *world.demands):
        if demand.funded and not demand.funded_late:
            needed[demand.buyer] += _hold(demand)
    parties = _buyers(world)
    for code, amount in sorted(needed.items()):
        deposit_funds(party=parties[code], amount_micros=amount, key="demo:1", now=now)


# --- 3, 4: proofs ---
def prove_challenges(story: Story) -> None:
    """Everybody who enrolled proves once and starts on probation."""
    clock.move_to(story.day(0, 2))
    now = clock.now()
    with transaction.atomic():
        for node_class, world_class in _node_classes(story.world):
            if world_class.standing != "REGISTERED":
                benchmark = prove(node_class=node_class, world_class=world_class, kind=CHALLENGE, epoch=1,
                                  at=story.day(0, 1), now=now)  # fmt: skip
                submit_proof(benchmark=benchmark, now=now)
    cycle.run_chain(now=now)
    _advance_standings(story, now)


def prove_baselines(story: Story) -> None:
    """After two weeks of checks and a roll call the baselines are attested; slashing is armed for the proven."""
    clock.move_to(story.day(7, 1))
    with transaction.atomic():
        called = [pair for pair in _node_classes(story.world) if pair[1].standing != "REGISTERED"]
        call_all_machines(called, epoch=2, at=story.day(7), now=clock.now())
    clock.move_to(story.day(14, 4))
    now = clock.now()
    _prove_baselines(story, now)
    cycle.run_chain(now=now)
    _advance_standings(story, now)


@transaction.atomic
def _prove_baselines(story: Story, now: datetime) -> None:
    for node_class, world_class in _node_classes(story.world):
        if world_class.standing == "REGISTERED":
            continue
        checks = CHECKS_DAY if world_class.standing == "PROVEN" else CHECKS_PROBATION
        done = node_class.standing.checks_passed
        record_checks(node_class=node_class, passed=max(0, checks - done), failed=0, now=now)
        if world_class.standing == "PROVEN":
            benchmark = prove(node_class=node_class, world_class=world_class, kind=BASELINE, epoch=3,
                              at=story.day(14, 3), now=now)  # fmt: skip
            submit_proof(benchmark=benchmark, now=now)
            attest_class(
                node_class=node_class, exposure_cap_micros=_exposure_cap(node_class, "PROVEN"), nonce=2,
                expires_at=story.day(ATTESTED_DAYS), now=now,
            )  # fmt: skip


@transaction.atomic
def _advance_standings(story: Story, now: datetime) -> None:
    for node_class, _ in _node_classes(story.world):
        advance_standing(node_class=node_class, now=now)


# --- 5, 6, 7: the early window ---
def play_early_market(story: Story) -> None:
    """A first, smaller window goes through the same code."""
    world, early = story.world, story.world.early_window
    window = open_window(
        name=EARLY, slots=early.slots, starts_at=story.day(16), demand_closes_at=story.day(15),
        no_cancel_from=story.day(15, 6), bidding_closes_at=story.day(15, 12), gate_unit_hours=50, gate_parties=3,
        cover_ppm=COVER_PPM, salt=f"demo {world.seed} early", now=clock.now(),
    )  # fmt: skip
    _post_and_fund(story, window, early.demands)
    _open_phases(clock.now())
    clock.move_to(story.day(15))
    cycle.advance(now=clock.now())
    _place_bids(story, window, early.bids)
    clock.move_to(story.day(15, 12))
    cycle.advance_until_quiet(now=clock.now())


def _open_phases(now: datetime) -> None:
    """Two people open phases 2 and 3 on the figures of this world: funded demand, and universities that have proven."""
    house = Party.objects.get(slug="foundation")
    for person in PHASE_SIGNERS:
        make_seat(party=house, email=person, password=None, role="judge", now=now)
    for no in range(current_phase() + 1, 4):
        counts = phase_counts()
        digest = bytes(keep_evidence(no=no, counts=counts, now=now).hash)
        for person in PHASE_SIGNERS:
            sign_phase(no=no, evidence_hash=digest, counts=counts, person=person, now=now)
        open_phase(no=no, counts=counts, person=PHASE_SIGNERS[0], now=now)


def deliver_early(story: Story) -> None:
    """Two days of delivery. The star's outage is a confirmed breach, its first: credit and a warning."""
    _deliver(story, Window.objects.get(name=EARLY), story.world.early_window.outages)


def restore_star(story: Story) -> None:
    """Forty-eight clean hours and a fresh baseline bring the warned provider back."""
    clock.move_to(story.day(20, 6))
    now = clock.now()
    world_classes = {row.pk: each for row, each in _node_classes(story.world)}
    for case in SlashCase.objects.filter(outcome="warned").select_related("node_class__standing"):
        node_class = case.node_class
        if node_class.standing.state != "DEGRADED":
            continue
        benchmark = prove(node_class=node_class, world_class=world_classes[node_class.pk], kind=BASELINE, epoch=4,
                          at=story.day(20, 5), now=now)  # fmt: skip
        submit_proof(benchmark=benchmark, now=now)
        cycle.run_chain(now=now)
        restore(node_class=node_class, clean_hours=54, now=now)


# --- 8 to 13: the main window ---
def collect_demand(story: Story) -> None:
    """Demand is posted and funded. A provider bids before the gate has opened and is refused."""
    world = story.world
    window = open_window(
        name=MAIN, slots=world.slots, starts_at=story.day(23), demand_closes_at=story.day(21),
        no_cancel_from=story.day(22), bidding_closes_at=story.day(22, 12), gate_unit_hours=5_000, gate_parties=10,
        cover_ppm=COVER_PPM, salt=f"demo {world.seed} main", now=clock.now(),
    )  # fmt: skip
    if "bids_refused_demand_first" not in story.run.facts:
        early_bid = next(bid for bid in world.bids if bid.reference == world.story.early_bid)
        refused = 0
        try:
            by_code = {each.code: row for row, each in _node_classes(world)}
            _place_bid(story, window, early_bid, by_code[early_bid.node_class])
        except DemandFirst:
            refused = 1
        story.note(bids_refused_demand_first=refused)
    _post_and_fund(story, window, world.demands)


def take_bids(story: Story) -> None:
    """Buyers whose money came late become eligible; then the gate opens and providers bid under seal."""
    world, window = story.world, Window.objects.get(name=MAIN)
    late = [demand for demand in world.demands if demand.funded_late]
    if window.state == "COLLECTING":
        story.note(funded_before_late_money=funded_figures(window=window)["funded_demands"])
        refused = story.run.facts.get("late_funding_refused", 0) or sum(_fund(story, demand) for demand in late)
        story.note(late_funding_refused=refused)
        needed: dict[str, int] = defaultdict(int)
        for demand in late:
            needed[demand.buyer] += _hold(demand)
        parties = _buyers(world)
        for code, amount in sorted(needed.items()):
            deposit_funds(party=parties[code], amount_micros=amount, key="demo:2", now=clock.now())
        cycle.run_chain(now=clock.now())
        for demand in late:
            _fund(story, demand)
    clock.move_to(story.day(21))
    cycle.advance(now=clock.now())
    _place_bids(story, window, world.bids)


def clear_and_lock(story: Story) -> None:
    """Bidding closes, the window is cleared, and the awarded money is locked on chain."""
    clock.move_to(story.day(22, 12))
    cycle.advance_until_quiet(now=clock.now())


def deliver_main(story: Story) -> None:
    """A week of slots, reported by the machines and probed by three verifiers."""
    clock.move_to(story.day(30, 1))
    window = Window.objects.get(name=MAIN)
    if window.state == "DELIVERING":
        report_window(window=window, outages=story.world.outages, codes=_codes(story.world), seed=story.world.seed,
                      now=clock.now())  # fmt: skip


def judge_and_pay(story: Story) -> None:
    """Verdicts, credits, one netted settlement, payouts; the slash panel brings its requests."""
    cycle.advance_until_quiet(now=clock.now())


def try_to_slash_unproven(story: Story) -> None:
    """Somebody brings a signed verdict against the unproven provider straight to the contract, and it reverts."""
    now = clock.now()
    for verdict in Verdict.objects.filter(is_breach=True, lease__is_armed=False).select_related(
        "lease__lock_batch", "lease__node_class"
    ):
        key = f"demo:slash-unproven:{verdict.lease.node_class.chain_class}:{verdict.lease.demand.reference}"
        if not ChainIntent.objects.filter(key=key).exists():
            sender.submit(
                key=key, role="custody", contract="stake", function="request_slash",
                args=request_args(verdict=verdict, amount_micros=verdict.lease.stake_micros // 20, kind=1, now=now),
                force_gas=FORCED_GAS, now=now,
            )  # fmt: skip
    cycle.run_chain(now=now)


def execute_slashes(story: Story) -> None:
    """Three days later nobody has disputed: anybody may execute, and the harmed buyer is paid first."""
    clock.move_to(story.day(33, 4))
    cycle.advance_until_quiet(now=clock.now())


def close_the_books(story: Story) -> None:
    """Seal the books, anchor their root, compare books and chain; a next window waits for whoever visits."""
    cycle.advance_until_quiet(now=clock.now())
    cycle.anchor_books(now=clock.now())
    cycle.run_chain(now=clock.now())
    cycle.reconcile(now=clock.now())
    open_window(
        name=NEXT, slots=story.world.slots, starts_at=story.day(45), demand_closes_at=story.day(42),
        no_cancel_from=story.day(43), bidding_closes_at=story.day(44), gate_unit_hours=5_000, gate_parties=10,
        salt=f"demo {story.world.seed} next", now=clock.now(),
    )  # fmt: skip


# --- the hands behind the acts ---
def _fill_catalogue(world: w.World) -> None:
    for zone in world.zones:
        row, _ = Zone.objects.get_or_create(code=zone.code, defaults={"name": zone.name, "source": zone.source})
        ZoneMember.objects.bulk_create(
            (
                ZoneMember(zone=row, country=m.country, valid_from=m.valid_from, valid_until=m.valid_until)
                for m in zone.members
            ),
            ignore_conflicts=True,
        )
    for tier in world.tiers:
        Tier.objects.get_or_create(level=tier.level, defaults={"name": tier.name})
    for each in world.resource_classes:
        ResourceClass.objects.get_or_create(
            code=each.code,
            defaults={
                "name": each.name, "ops_per_sec": each.ops_per_second, "mem_bytes": each.memory_bytes,
                "mem_bytes_per_sec": each.bandwidth_bytes_per_second,
                "reference_price_micros": each.reference_price_micros,
            },
        )  # fmt: skip
    for preset in world.sla_presets:
        SlaPreset.objects.get_or_create(code=preset.code, defaults={"availability_bps": preset.sla_bps})
    for vantage in world.vantages:
        Vantage.objects.get_or_create(
            code=vantage.code,
            defaults={"city": vantage.city, "country": vantage.country, "lat": vantage.lat, "lon": vantage.lon},
        )


def _register_provider(provider: w.Provider, world: w.World, now: datetime) -> None:
    party = register_party(
        slug=slugify(provider.name), name=provider.name, kind=PROVIDER_KINDS.get(provider.kind, provider.kind),
        country=provider.country, parent_country=provider.parent_country, now=now,
    )  # fmt: skip
    code = _site_code(provider)
    site = register_site(
        party=party, code=code, city=provider.city, country=provider.country,
        operator_country=provider.operator_country, keys_country=provider.keys_country, lat=provider.lat,
        lon=provider.lon, now=now,
        rtt_ms_p95={row.vantage: (row.rtt_ms_p95, row.basis) for row in world.latency if row.site == provider.site},
    )  # fmt: skip
    show_controls(site=site, tier=provider.tier, valid_until=now + timedelta(days=EVIDENCE_DAYS), now=now)
    for each in provider.node_classes:
        enrol_node_class(
            party=party, site=site, resource_class_code=each.resource_class, units=each.units, tier=provider.tier,
            claimed_name=each.resource_class, machine_key=machine_key(each.code).public_bytes, now=now,
        )  # fmt: skip


def _site_code(provider: w.Provider) -> str:
    return f"{provider.site}-{provider.code}".lower()


def _node_classes(world: w.World) -> list[tuple[NodeClass, w.NodeClass]]:
    """Every enrolled node class beside its description, in the order of enrolment."""
    rows = {
        (row.site.code, row.resource_class_id): row
        for row in NodeClass.objects.select_related("site", "party", "standing", "resource_class")
    }
    pairs = []
    for provider in world.providers:
        for each in provider.node_classes:
            row = rows.get((_site_code(provider), each.resource_class))
            if row is not None:
                pairs.append((row, each))
    return pairs


def _codes(world: w.World) -> dict[UUID, str]:
    return {row.pk: each.code for row, each in _node_classes(world)}


def _buyers(world: w.World) -> dict[str, Party]:
    slugs = {buyer.code: slugify(buyer.name) for buyer in world.buyers}
    parties = {party.slug: party for party in Party.objects.filter(slug__in=slugs.values())}
    return {code: parties[slug] for code, slug in slugs.items()}


def _hold(demand: w.Demand) -> int:
    return demand.quantity_units * (demand.end_slot - demand.start_slot) * demand.price_limit_micros


def _stake(node_class: NodeClass) -> int:
    """Enough to carry all units over a whole window at four times the reference price."""
    return stake_micros(
        price_micros=PRICE_ROOM * node_class.resource_class.reference_price_micros, units=node_class.units, hours=168,
        good_hours=0, bad_hours=0,
    )  # fmt: skip


def _exposure_cap(node_class: NodeClass, standing: str) -> int:
    return exposure_cap_micros(
        standing=standing, price_micros=PRICE_ROOM * node_class.resource_class.reference_price_micros,
        capacity_units=node_class.units, bonded_micros=_stake(node_class), good_hours=0, bad_hours=0, hours=168,
    )  # fmt: skip


def _post_and_fund(story: Story, window: Window, demands: tuple[w.Demand, ...]) -> None:
    if Window.objects.get(pk=window.pk).state != "COLLECTING":
        return
    parties = _buyers(story.world)
    presets = {preset.sla_bps: preset.code for preset in story.world.sla_presets}
    now = clock.now()
    for some in batched(demands, AT_ONCE):
        with transaction.atomic():
            for demand in some:
                row = post_demand(
                    party=parties[demand.buyer], window=window, reference=demand.reference, kind=demand.kind,
                    accepted_classes=demand.accepted_classes, quantity_units=demand.quantity_units,
                    start_slot=demand.start_slot, end_slot=demand.end_slot,
                    price_limit_micros=demand.price_limit_micros, sla_code=presets[demand.sla_bps],
                    zone_code=demand.zone, control_zone_code=demand.control_zone, tier_min=demand.tier_min,
                    vantage_code=demand.vantage, latency_ms_max=demand.latency_ms_max, now=now,
                )  # fmt: skip
                if demand.funded and not demand.funded_late:
                    fund_demand(demand=row, party=row.party, now=now)
    with transaction.atomic():
        zoned = Demand.objects.filter(window=window, state="funded").exclude(zone=None).select_related("party")
        say_worth(zoned.order_by("accepted_rank")[:SPOKEN_MAX], now=now)


def batched(rows: tuple[w.Demand, ...], size: int) -> Iterator[tuple[w.Demand, ...]]:
    """Rows in runs of `size`, as a buyer's import would send them."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _fund(story: Story, demand: w.Demand) -> int:
    """Fund one demand; 1 when the money is not there yet."""
    row = Demand.objects.select_related("party").get(reference=demand.reference)
    try:
        fund_demand(demand=row, party=row.party, now=clock.now())
    except NotFunded:
        return 1
    return 0


def _place_bids(story: Story, window: Window, bids: tuple[w.Bid, ...]) -> None:
    if Window.objects.get(pk=window.pk).state != "BIDDING":
        return
    placed = set(Bid.objects.filter(window=window).values_list("reference", flat=True))
    by_code = {each.code: row for row, each in _node_classes(story.world)}
    _let_in(window, [(by_code[bid.node_class], bid) for bid in bids if bid.reference not in placed])
    for bid in bids:
        if bid.reference not in placed:
            _place_bid(story, window, bid, by_code[bid.node_class])


@transaction.atomic
def _let_in(window: Window, bids: list[tuple[NodeClass, w.Bid]]) -> None:
    """Each class asks for what it will offer, once, and funded demand lets it in."""
    month, offered = delivery_month(window), defaultdict(int)
    for node_class, bid in bids:
        offered[node_class] += bid.quantity_units * (bid.end_slot - bid.start_slot)
    for node_class, unit_hours in offered.items():
        missing = unit_hours - free_unit_hours(node_class=node_class, month=month)
        if missing > 0:
            asked = ask_admission(party=node_class.party, node_class=node_class, month=month, unit_hours=missing,
                                  now=clock.now())  # fmt: skip
            admit(admission=asked, now=clock.now())


def _place_bid(story: Story, window: Window, bid: w.Bid, node_class: NodeClass) -> None:
    presets = {preset.sla_bps: preset.code for preset in story.world.sla_presets}
    place_bid(
        party=node_class.party, node_class=node_class, window=window, reference=bid.reference,
        quantity_units=bid.quantity_units, start_slot=bid.start_slot, end_slot=bid.end_slot,
        price_ask_micros=bid.price_ask_micros, sla_code=presets[bid.sla_bps], now=clock.now(),
    )  # fmt: skip


def _deliver(story: Story, window: Window, outages: tuple[w.Outage, ...]) -> None:
    clock.move_to(window.ends_at + timedelta(hours=1))
    if Window.objects.get(pk=window.pk).state == "DELIVERING":
        report_window(window=window, outages=outages, codes=_codes(story.world), seed=story.world.seed, now=clock.now())
    cycle.advance_until_quiet(now=clock.now())
