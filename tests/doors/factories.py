"""A believable small market as rows: one settled window, one that takes bids, one that collects demand.

Money goes through the books' own recipes; everything else is written directly, so that pages can be tested without the
chain. The same seed gives the same market, and its rows of one moment sort as they were made: which of them a test
finds first hangs on no chance.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from unittest.mock import patch
from uuid import UUID

from eth_utils.address import to_checksum_address

from ledger import services as books
from ledger.ids import uuid7, uuid_from
from ledger.models import ChainContract, ChainIntent, ChainMark
from marketplace import models as m
from marketplace.compliance.catalogue import ensure_catalogue
from marketplace.demo.papers import show_controls
from marketplace.demo.rolls import answer_for_all, enrol_unit_provers
from marketplace.supply.admissions import delivery_month
from marketplace.supply.sealing import Terms, write_sealed
from tests.owner import behind_the_triggers
from tests.sealed import opened

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # market time in tests is the wall clock
PASSWORD = "a long enough password"
TURNS = count(1)
USD = 1_000_000
CLASSES = {  # code: (operations, bytes, bytes per second, price in micro-USD)
    "H100-80": (987_707_377_000_000, 85_899_345_920, 3_345_621_550_000, 2_400_000),
    "A100-80": (312_000_000_000_000, 85_899_345_920, 2_039_000_000_000, 1_300_000),
    "L40S-48": (181_000_000_000_000, 51_539_607_552, 864_000_000_000, 900_000),
    "VCPU-8": (1_400_000_000_000, 34_359_738_368, 60_000_000_000, 210_000),
}
ZONES = {
    "EU": ("European Union", ["DE", "FR", "NL", "SE", "FI"]),
    "EEA": ("European Economic Area", ["DE", "FR", "NL", "SE", "FI", "NO", "IS"]),
    "ADEQUATE": ("EEA and adequate countries", ["DE", "FR", "NL", "SE", "FI", "NO", "IS", "CH"]),
    "CH": ("Switzerland", ["CH"]),
    "US": ("United States", ["US"]),
}
BUYERS = ["Vintervik Pharma", "Alderwyn Versicherung", "Braunfelder Maschinenbau", "Odelune Bank", "Tessaly Labs"]
PROVIDERS = [
    ("Nordlicht Rechenwerk", "Frankfurt", "DE", 50.11, 8.68, "PROVEN"),
    ("Zirbelquell Compute", "Zurich", "CH", 47.38, 8.44, "PROBATION"),
    ("Hochschule Brennet", "Stuttgart", "DE", 48.78, 9.18, "PROVEN"),
    ("Fjordkraft HPC", "Oslo", "NO", 59.91, 10.75, "PROVEN"),
    ("Lakeshore Systems", "Chicago", "US", 41.88, -87.63, "PROVEN"),
    ("Université de Sologne", "Orléans", "FR", 47.9, 1.9, "REGISTERED"),
]


@dataclass
class Market:
    """The rows that tests name."""

    buyers: list[m.Party] = field(default_factory=list)
    providers: list[m.Party] = field(default_factory=list)
    verifiers: list[m.Party] = field(default_factory=list)
    classes: list[m.NodeClass] = field(default_factory=list)
    settled: m.Window | None = None
    bidding: m.Window | None = None
    collecting: m.Window | None = None
    clearing: m.Clearing | None = None
    leases: list[m.Lease] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def hash(self, *parts: object) -> bytes:
        return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def stand_in_phase(no: int) -> None:
    """Let this market stand in a phase, whatever was signed."""
    with behind_the_triggers():
        m.Phase.objects.filter(no__gt=1).update(is_open=False, opened_at=None, evidence_hash=None)
        m.Phase.objects.filter(no__lte=no).update(is_open=True, opened_at=NOW, evidence_hash=bytes(32))
        m.Flag.objects.filter(opens_in_phase__lte=no).update(is_on=True)
        m.Flag.objects.filter(opens_in_phase__gt=no).update(is_on=False)


def make_market() -> Market:
    """Write the whole market and return the rows that tests name."""
    with patch.object(secrets, "randbits", lambda bits: next(TURNS)):  # the part of an id that is no time
        return _made()


def _made() -> Market:
    market = Market()
    stand_in_phase(3)
    _catalogue()
    _parties(market)
    ensure_catalogue(now=NOW)
    _node_classes(market)
    market.settled = _window(1, "2026-W46", NOW - timedelta(days=9), 168)
    _settled_window(market)
    market.bidding = _window(2, "2026-W48", NOW + timedelta(days=3), 168)
    _demands(market, market.bidding, 14, funded=14)
    _move(market.bidding, "BIDDING")
    _bids(market, market.bidding)
    market.collecting = _window(3, "2026-W49", NOW + timedelta(days=10), 168)
    _demands(market, market.collecting, 9, funded=5)
    for window in (market.bidding, market.collecting):
        _indicative(market, window)
    _chain_rows(market)
    return market


def _indicative(market: Market, window: m.Window) -> None:
    for kind in m.ResourceClass.objects.all():
        low = kind.reference_price_micros
        is_traded = kind.pk == "H100-80"
        m.IndicativePrice.objects.create(
            window=window, resource_class=kind, method="cleared_bids" if is_traded else "comparator", low_micros=low,
            high_micros=low + 250_000 * is_traded, bids=4 * is_traded, source="4 opened bids of 2026-W46",
            input_hash=market.hash("copy"), made_at=NOW,
        )  # fmt: skip


def seat(party: m.Party, email: str, role: str = "owner", is_staff: bool = False) -> m.User:
    """Make a person with a seat in a party."""
    user = m.User.objects.create_user(email, PASSWORD, is_staff=is_staff, is_superuser=is_staff)
    m.Seat.objects.create(id=uuid7(NOW), user=user, party=party, role=role)
    return user


def _catalogue() -> None:
    for code, (ops, mem, rate, price) in CLASSES.items():
        m.ResourceClass.objects.create(
            code=code, name=code, ops_per_sec=ops, mem_bytes=mem, mem_bytes_per_sec=rate, reference_price_micros=price
        )
    for code, (name, members) in ZONES.items():
        zone = m.Zone.objects.create(code=code, name=name, source="made for tests")
        for country in members:
            m.ZoneMember.objects.create(zone=zone, country=country, valid_from="1995-01-01")
    for level, name in enumerate(["Public batch", "Internal", "Regulated", "Restricted"]):
        m.Tier.objects.create(level=level, name=name)
    for code, bps in (("99.0", 9900), ("99.5", 9950), ("99.9", 9990)):
        m.SlaPreset.objects.create(code=code, availability_bps=bps)
    m.Vantage.objects.create(code="V-AMS", city="Amsterdam", country="NL", lat=52.37, lon=4.9)


def _parties(market: Market) -> None:
    for name in BUYERS:
        market.buyers.append(m.Party.objects.create(
            id=uuid7(NOW), slug=name.lower().replace(" ", "-"), name=name, kind="enterprise_buyer", country="DE",
            parent_country="DE", registered_at=NOW - timedelta(days=60),
        ))  # fmt: skip
    for number, (name, *_rest) in enumerate(PROVIDERS):
        market.providers.append(m.Party.objects.create(
            id=uuid7(NOW), slug=f"provider-{number}", name=name, kind="enterprise", country=PROVIDERS[number][2],
            parent_country=PROVIDERS[number][2], chain_address=f"0x{number + 1:040x}",
            registered_at=NOW - timedelta(days=60),
        ))  # fmt: skip
    for number in (1, 2):
        market.verifiers.append(m.Party.objects.create(
            id=uuid7(NOW), slug=f"verifier-{number}", name=f"Verifier {number}", kind="verifier", country="CH",
            parent_country="CH", registered_at=NOW - timedelta(days=60),
        ))  # fmt: skip
    for number, buyer in enumerate(market.buyers):
        books.book_deposit(
            party=buyer.pk, amount=(400 - 40 * number) * 1000 * USD,
            reference=market.hash("deposit", number) + bytes(4), now=NOW - timedelta(days=20),
        )  # fmt: skip


def _node_classes(market: Market) -> None:
    number = 0
    for party, (_, city, country, lat, lon, state) in zip(market.providers, PROVIDERS, strict=True):
        site = m.Site.objects.create(
            id=uuid7(NOW), party=party, code=f"{city[:3].upper()}-{number}", city=city, country=country,
            operator_country=country, keys_country=country, lat=lat, lon=lon,
        )
        show_controls(site=site, tier=2, valid_until=NOW + timedelta(days=300), now=NOW - timedelta(days=60))
        m.SiteLatency.objects.create(site=site, vantage_id="V-AMS", rtt_ms_p95=20, method="bounded")
        for code in list(CLASSES)[: 3 if number < 6 else 2]:
            number += 1
            row = m.NodeClass.objects.create(
                id=uuid7(NOW), party=party, site=site, resource_class_id=code, claimed_name=f"NVIDIA {code}", units=32,
                tier=2, chain_class=number, machine_key=market.hash("key", number),
                enrolled_at=NOW - timedelta(days=50),
            )
            market.classes.append(row)
            _standing(market, row, state)


def _rise(market: Market, standing: m.Standing, state: str, reason: str, at: datetime) -> None:
    m.StandingChange.objects.create(
        node_class_id=standing.pk, from_state=standing.state, to_state=state, actor="verifiers", reason=reason,
        evidence=market.hash("transcript", standing.node_class.chain_class), at=at,
    )
    standing.state, standing.changed_at = state, at
    standing.save()


def _mark(market: Market, row: m.NodeClass, *, epoch: int, kind: int, days_ago: int) -> m.Benchmark:
    """An attested benchmark that reaches the class."""
    reference, at = row.resource_class, NOW - timedelta(days=days_ago)
    mark = m.Benchmark.objects.create(
        id=uuid7(NOW), node_class=row, kind=kind, epoch=epoch, is_simulated=True,
        ops_per_sec=reference.ops_per_sec * 96 // 100, mem_bytes=reference.mem_bytes,
        mem_bytes_per_sec=reference.mem_bytes_per_sec * 91 // 100, seed=market.hash("seed", row.chain_class),
        params_hash=market.hash("params"), transcript_hash=market.hash("transcript", row.chain_class), message={},
        started_at=at - timedelta(minutes=2), finished_at=at, valid_until=at + timedelta(days=90),
    )
    for verifier in range(3):
        m.Attestation.objects.create(
            benchmark=mark, signer="0x" + market.hash("verifier", verifier).hex()[:40], v=27, r=bytes(32), s=bytes(32)
        )
    return mark


def _answer_a_roll(market: Market, row: m.NodeClass, at: datetime) -> None:
    code = str(row.chain_class)
    enrol_unit_provers(row, code=code, now=row.enrolled_at)
    roll = m.RollCall.objects.create(
        id=uuid7(NOW), owner_id=row.party_id, opened_at=at, closes_at=at + timedelta(minutes=10)
    )
    m.RollMember.objects.create(roll=roll, node_class=row, machines=row.units)
    answer_for_all(roll, codes={row.pk: code}, verifiers=market.verifiers, at=at + timedelta(minutes=6))


def _standing(market: Market, row: m.NodeClass, state: str) -> None:
    proven = state == "PROVEN"
    standing = m.Standing.objects.create(
        node_class=row, state="REGISTERED", checks_passed=320 if proven else 40, good_hours=300 if proven else 24,
        challenged_at=None if state == "REGISTERED" else NOW - timedelta(days=40),
        proven_at=NOW - timedelta(days=20) if proven else None,
        proven_until=NOW + timedelta(days=70) if proven else None, changed_at=NOW,
    )
    if state == "REGISTERED":
        return
    _rise(market, standing, "PROBATION", "challenge attested by a quorum", NOW - timedelta(days=40))
    if not proven:
        _mark(market, row, epoch=1, kind=1, days_ago=20)
    else:
        _mark(market, row, epoch=1, kind=1, days_ago=40)
        _answer_a_roll(market, row, _mark(market, row, epoch=2, kind=1, days_ago=30).started_at)
        _mark(market, row, epoch=3, kind=2, days_ago=20)
        _rise(market, standing, "PROVEN", "313 checks passed and baseline attested", NOW - timedelta(days=20))
    books.book_stake(
        provider=row.party_id, node_class=row.pk, amount=5_500 * USD,
        reference=market.hash("stake", row.chain_class) + bytes(4), now=NOW - timedelta(days=30),
    )


def _window(number: int, name: str, starts_at: datetime, slots: int) -> m.Window:
    return m.Window.objects.create(
        id=uuid7(starts_at), number=number, name=name, slots=slots, starts_at=starts_at,
        demand_closes_at=starts_at - timedelta(days=2), no_cancel_from=starts_at - timedelta(hours=30),
        bidding_closes_at=starts_at - timedelta(hours=24), gate_unit_hours=9_000, gate_parties=3,
        pseudonym_salt=bytes(32), opened_at=starts_at - timedelta(days=6),
    )  # fmt: skip


def _move(window: m.Window, to_state: str) -> None:
    at = {"BIDDING": window.demand_closes_at, "CLEARING": window.bidding_closes_at}.get(to_state, window.starts_at)
    m.WindowTransition.objects.create(
        window=window, from_state=window.state, to_state=to_state, reason="made for tests", at=at
    )
    window.state = to_state
    window.save()


def _demands(market: Market, window: m.Window, count: int, funded: int) -> list[m.Demand]:
    rows = []
    for number in range(count):
        code = list(CLASSES)[number % 3]
        price = CLASSES[code][3] * market.rng.randint(85, 160) // 100 // 100 * 100
        buyer = market.buyers[number % len(market.buyers)]
        start = market.rng.choice([0, 0, 24, 48])
        row = m.Demand.objects.create(
            id=uuid7(NOW), window=window, party=buyer, reference=f"{window.name}-D{number + 1:02d}",
            kind="window" if number % 4 == 3 else "divisible", accepted_classes=[code],
            quantity_units=market.rng.randint(4, 20), start_slot=start, end_slot=min(window.slots, start + 120),
            price_limit_micros=price, zone_id="EU" if number % 3 == 0 else None, tier_min=number % 3,
            sla_id="99.0" if number % 2 else "99.5", accepted_rank=number + 1, posted_at=window.opened_at,
        )  # fmt: skip
        rows.append(row)
        if number < funded:
            _fund(row)
    return rows


def _fund(row: m.Demand) -> None:
    row.hold_id = uuid_from("test hold", row.pk)
    books.reserve_hold(
        id=row.hold_id, party=row.party_id, window=row.window_id, amount=row.hold_micros,
        timeout_at=NOW + timedelta(days=60), now=row.posted_at,
    )
    row.state, row.funded_at, row.funding_kind = "funded", row.posted_at, "escrow"
    row.save()


def _any_size(node_class: m.NodeClass) -> AbstractContextManager[object]:
    """Let a class on probation sell a week's lease: its pages are shown here with more than the market would let it."""
    return behind_the_triggers() if node_class.standing.state == "PROBATION" else nullcontext()


def _bids(market: Market, window: m.Window) -> list[m.Bid]:
    rows = []
    for number, node_class in enumerate(c for c in market.classes if c.standing.state != "REGISTERED"):
        _let_in(node_class, window)
        base = CLASSES[node_class.resource_class_id][3]
        is_small = node_class.standing.state == "PROBATION"  # a tenth of 32 units, for a day
        quantity, end = (3, 24) if is_small else (market.rng.randint(6, 20), window.slots)
        ask = base * market.rng.randint(60, 115) // 100 // 100 * 100
        rows.append(write_sealed(
            window=window, node_class=node_class, party=node_class.party, reference=f"{window.name}-B{number + 1:02d}",
            terms=Terms(quantity, 0, end, ask, 0, "99.5", {}), accepted_rank=number + 1,
            now=window.demand_closes_at + timedelta(hours=1),
        ))  # fmt: skip
    return rows


def _let_in(node_class: m.NodeClass, window: m.Window) -> None:
    """Let a class in for every hour, covered or not: this market has sellers whom no demand of it would let in."""
    with behind_the_triggers():
        m.Admission.objects.create(
            id=uuid7(NOW), node_class=node_class, month=delivery_month(window), zone=node_class.site.country,
            unit_hours=2**40, state="ADMITTED", asked_at=window.opened_at,
            decided_at=window.demand_closes_at,
        )  # fmt: skip


def _settled_window(market: Market) -> None:
    window = market.settled
    demands = _demands(market, window, 36, funded=34)
    _move(window, "BIDDING")
    _bids(market, window)
    _move(window, "CLEARING")
    bids = opened(window)
    market.clearing = m.Clearing.objects.create(
        id=uuid7(NOW), window=window, rule_version="2026-11", bundle_hash=market.hash("bundle"),
        welfare_micros=41_237_812_400, bound_micros=41_237_812_400, gap_micros=0, demand_lines=34, bid_lines=len(bids),
        cleared_at=window.bidding_closes_at, premium_ppm=214_000, premium_low_ppm=180_000, premium_high_ppm=251_000,
        premium_unit_hours=4_100,
        concentration=[
            {"product": ["H100-80", "EU", 2], "unit_hours": 2_400, "parents": 5, "hhi": 2_410, "top_share_ppm": 299_800,
             "cap_unit_hours": 720, "capped_parents": 2, "is_cap_applicable": True},
            {"product": ["L40S-48", "US", 1], "unit_hours": 900, "parents": 1, "hhi": 10_000,
             "top_share_ppm": 1_000_000, "cap_unit_hours": None, "capped_parents": 0, "is_cap_applicable": False},
        ],
    )  # fmt: skip
    for name in ("manifest.json", "bids.jsonl", "demands.jsonl"):
        m.BundleFile.objects.create(clearing=market.clearing, name=name, body=f'{{"file":"{name}"}}\n'.encode())
    awards = _awards(market, demands, bids)
    _prices(market, bids)
    _reasons(market, demands, bids, awards)
    _move(window, "CLEARED")
    _leases(market, awards)
    _move(window, "DELIVERING")
    _deliver(market)
    _move(window, "SETTLED")


def _price(code: str) -> int:
    return CLASSES[code][3]


def _awards(market: Market, demands: list[m.Demand], bids: list[m.Bid]) -> list[m.Award]:
    left = {bid.pk: bid.quantity_units for bid in bids}
    made = []
    for demand in (d for d in demands if d.state == "funded"):
        code, want = demand.accepted_classes[0], demand.quantity_units
        price = _price(code)
        if demand.price_limit_micros < price:
            continue
        for bid in bids:
            site = bid.node_class.site
            fits = bid.node_class.resource_class_id == code and bid.price_ask_micros <= price
            if not fits or (demand.zone_id == "EU" and site.country not in ZONES["EU"][1]):
                continue
            units = min(want, left[bid.pk])
            if units:
                left[bid.pk] -= units
                want -= units
                whole = units * price * demand.hours
                tenth = whole // 10
                with _any_size(bid.node_class):
                    made.append(m.Award.objects.create(
                        id=uuid7(NOW), clearing=market.clearing, demand=demand, bid=bid, start_slot=demand.start_slot,
                        end_slot=demand.end_slot, units=units, slot_prices_micros=[price] * demand.hours,
                        amount_micros=whole, base_micros=whole - 4 * tenth, scarcity_micros=tenth,
                        locality_micros=2 * tenth, tier_micros=tenth, sla_micros=0,
                    ))  # fmt: skip
                spare = next((b for b in bids if b.party_id != bid.party_id), None)
                if spare:
                    m.Backup.objects.create(award=made[-1], bid=spare, strike_price_micros=price + 100_000)
    won = {a.demand_id for a in made}
    for demand in demands:
        demand.state = "awarded" if demand.pk in won else ("lost" if demand.hold_id else "unfunded")
        if demand.hold_id:
            _end_hold(demand, sum(a.amount_micros for a in made if a.demand_id == demand.pk))
        demand.save()
    for bid in bids:
        bid.state = "awarded" if left[bid.pk] < bid.quantity_units else "lost"
        bid.save()
    return made


def _end_hold(demand: m.Demand, amount: int) -> None:
    if not amount:
        books.void_hold(id=demand.hold_id, now=NOW)
        return
    posting = books.post_hold_posting(
        hold_id=demand.hold_id, party=demand.party_id, window=demand.window_id, amount=amount
    )
    books.post_transfers(ledger=books.USDC6_LEDGER, postings=[posting], now=NOW)


def _prices(market: Market, bids: list[m.Bid]) -> None:
    seen = {(b.node_class.resource_class_id, b.node_class.site.country, b.node_class.tier) for b in bids}
    for number, (code, country, tier) in enumerate(sorted(seen)):
        prices = [_price(code) * (100 + market.rng.randint(-6, 6)) // 100 // 100 * 100 for _ in range(168)]
        m.PriceRow.objects.create(
            clearing=market.clearing, signature=f"s{number}", resource_class=code, country=country, tier=tier,
            slot_prices_micros=prices,
        )


def _reasons(market: Market, demands: list[m.Demand], bids: list[m.Bid], awards: list[m.Award]) -> None:
    filled: dict[UUID, int] = {}
    for award in awards:
        hours = award.units * (award.end_slot - award.start_slot)
        filled[award.demand_id] = filled.get(award.demand_id, 0) + hours
        filled[award.bid_id] = filled.get(award.bid_id, 0) + hours
    for demand in demands:
        rest = demand.unit_hours - filled.get(demand.pk, 0)
        if rest:
            gap = _price(demand.accepted_classes[0]) - demand.price_limit_micros
            code = "not_funded" if not demand.hold_id else ("priced_out" if gap > 0 else "no_compliant_capacity")
            m.LineReason.objects.create(
                clearing=market.clearing, side="demand", demand=demand, code=code, unfilled_unit_hours=rest,
                detail={"gap_micros": gap} if code == "priced_out" else {"rule": "zone"},
            )
    for bid in bids:
        rest = bid.quantity_units * 168 - filled.get(bid.pk, 0)
        if rest:
            gap = bid.price_ask_micros - _price(bid.node_class.resource_class_id)
            m.LineReason.objects.create(
                clearing=market.clearing, side="bid", bid=bid, unfilled_unit_hours=rest,
                code="priced_out" if gap > 0 else "no_matching_demand", detail={"gap_micros": gap} if gap > 0 else {},
            )


def _leases(market: Market, awards: list[m.Award]) -> None:
    window = market.settled
    batch = m.LockBatch.objects.create(
        id=uuid7(NOW), window=window, ordinal=0, intent_key="lock:1:0", chain_no=1, buyers=[], classes=[], lines=[],
        total_micros=1, locked_at=window.starts_at,
    )
    mandates = {
        buyer.pk: m.Mandate.objects.create(
            id=uuid7(NOW), window=window, party=buyer, tier_min=0, nonce=1, max_spend_micros=10**12,
            expires_at=NOW + timedelta(days=30), signed={},
        )
        for buyer in market.buyers
    }
    for line, award in enumerate(awards):
        demand, bid = award.demand, award.bid
        hours = award.end_slot - award.start_slot
        market.leases.append(m.Lease.objects.create(
            id=uuid7(NOW), window=window, clearing=market.clearing, demand=demand, bid=bid, buyer=demand.party,
            provider=bid.party, node_class=bid.node_class, mandate=mandates[demand.party_id], lock_batch=batch,
            lock_line=line, start_slot=award.start_slot, end_slot=award.end_slot, unit_hours=award.units * hours,
            fee_micros=award.amount_micros, stake_micros=award.amount_micros // 10, sla_bps=9950,
            is_armed=bid.node_class.standing.state == "PROVEN", state="settled", made_at=window.starts_at,
        ))  # fmt: skip


def _deliver(market: Market) -> None:
    settlement = m.Settlement.objects.create(
        id=uuid7(NOW), window=market.settled, epoch=1, intent_key="settle:1", earned_micros=1, refunded_micros=0,
        fees_micros=1, root=market.hash("root"), made_at=NOW - timedelta(days=1), final_at=NOW - timedelta(days=1),
    )
    broken = next(lease for lease in market.leases if lease.is_armed and lease.buyer_id == market.buyers[0].pk)
    held = next((lease for lease in market.leases if not lease.is_armed), None)
    for lease in market.leases:
        outage = {broken.pk: (14, 90), **({held.pk: (8, 75)} if held else {})}.get(lease.pk, (0, 0))
        _settle(market, lease, settlement, _metered(market, lease, *outage))
    for party in {lease.provider for lease in market.leases}:
        _pay_out(market, party)


def _metered(market: Market, lease: m.Lease, hours_down: int, minutes_each: int) -> tuple[int, int]:
    """Write the readings of a lease; return minutes down and unknown."""
    slots = lease.end_slot - lease.start_slot
    down_slots = {lease.start_slot + 30 + i: min(60, minutes_each - 3 * i) for i in range(hours_down)}
    share = lease.fee_micros // slots
    rows = []
    for slot in range(lease.start_slot, lease.end_slot):
        down = down_slots.get(slot, 4 if slot % 61 == 17 else 0)
        unknown = 9 if slot % 53 == 11 and not down else 0
        rows.append(m.Reading(
            lease=lease, slot=slot, units=lease.unit_hours // slots, amount_micros=share, provider_up=2**60 - 1,
            probe_valid=[], probe_failed=[], minutes_down=down, minutes_unknown=unknown, minutes_billable=60 - down,
            earned_micros=share * (60 - down) // 60, report=b"{}", signature=bytes(64),
        ))  # fmt: skip
    m.Reading.objects.bulk_create(rows)
    return sum(r.minutes_down for r in rows), sum(r.minutes_unknown for r in rows)


def _settle(market: Market, lease: m.Lease, settlement: m.Settlement, minutes: tuple[int, int]) -> None:
    down, unknown = minutes
    period = 60 * (lease.end_slot - lease.start_slot)
    known = period - unknown
    availability = (known - down) * 1_000_000 // known
    is_breach, is_below = down > 120, availability < lease.sla_bps * 100
    unpaid = lease.fee_micros * down // period
    verdict = m.Verdict.objects.create(
        id=uuid7(NOW), lease=lease, known_minutes=known, down_minutes=down, unknown_minutes=unknown,
        threshold_minutes=64, availability_ppm=availability, is_below_sla=is_below, is_breach=is_breach,
        earned_micros=lease.fee_micros - unpaid, unpaid_micros=unpaid, rule_version="2026-11",
        evidence_hash=market.hash("evidence", lease.pk),
        breach_at=lease.window.slot_at(lease.start_slot + 40) if is_breach else None, judged_at=NOW - timedelta(days=1),
    )
    credit = (lease.fee_micros + 9) // 10 if is_below else 0
    if credit:
        m.Credit.objects.create(
            id=uuid7(NOW), verdict=verdict, step_bps=1000, amount_micros=credit,
            source="escrow" if lease.is_armed else "holdback", posted_at=NOW - timedelta(hours=20),
        )
    if is_breach:
        _case(lease, verdict)
    earned = lease.fee_micros - unpaid - credit
    fee = earned * 250 // 10_000
    holdback = 0 if lease.is_armed else earned - fee
    m.SettlementLine.objects.create(
        settlement=settlement, lease=lease, earned_micros=earned, payable_micros=earned - fee - holdback,
        holdback_micros=holdback, fee_micros=fee, returned_micros=unpaid, credit_micros=credit,
    )
    postings = books.settle_postings(
        lease=lease.pk, buyer=lease.buyer_id, window=lease.window_id, provider=lease.provider_id,
        node_class=lease.node_class_id, earned=earned - fee - holdback, holdback=holdback, fee=fee, returned=unpaid,
        credit=credit,
    )
    books.post_transfers(ledger=books.USDC6_LEDGER, postings=postings, now=NOW - timedelta(days=1))


def _case(lease: m.Lease, verdict: m.Verdict) -> None:
    armed = lease.is_armed
    case = m.SlashCase.objects.create(
        id=uuid7(NOW), verdict=verdict, node_class=lease.node_class, outcome="requested" if armed else "held_back",
        reason_kind=1, amount_micros=240 * USD, intent_key=f"slash:{lease.pk}", opened_at=NOW - timedelta(days=1),
        sentence="Second confirmed breach within 90 days: 5 % of the lease's stake." if armed
        else "The class was not proven when the lease was signed, so its holdback pays instead of its stake.",
        forfeit_micros=0 if armed else 180 * USD,
        refusal="" if armed else "stake: not proven at lock and breach",
        executable_at=NOW if armed else None,
    )  # fmt: skip
    if armed:
        case.outcome, case.to_buyer_micros, case.executed_at = "executed", 240 * USD, NOW
        case.save()


def _pay_out(market: Market, party: m.Party) -> None:
    for node_class in party.node_classes.all():
        lines = m.SettlementLine.objects.filter(lease__node_class=node_class)
        amount = sum(line.payable_micros for line in lines) * 9 // 10
        if amount:
            m.Payout.objects.create(
                id=uuid7(NOW), node_class=node_class, window=market.settled, amount_micros=amount,
                intent_key=f"payout:{node_class.pk}", made_at=NOW, final_at=NOW,
            )
            books.book_paid_out(
                provider=party.pk, node_class=node_class.pk, amount=amount,
                reference=market.hash("payout", node_class.pk) + bytes(4), now=NOW,
            )


def _chain_rows(market: Market) -> None:
    address = to_checksum_address("0x" + "a1" * 20)
    ChainContract.objects.create(name="escrow", address=address, chain_id=31338, abi_hash="-")
    ChainMark.objects.create(name="indexer", block_number=412, block_hash="0x00")
    for nonce, key in enumerate(("lock:1:0", "settle:1"), start=1):
        ChainIntent.objects.create(
            id=uuid7(NOW), key=key, role="operator", contract="escrow", function="lock", to_address="0x", calldata=b"",
            state="final", nonce=nonce, tx_hash="0x" + market.hash(key).hex(), block_number=400, created_at=NOW,
        )
    m.Progress.objects.create(
        job="demo", phase="A week of delivery, minute by minute", done=11, total=15, updated_at=NOW,
        sentence="Readings of 1,204 leases are being written.",
    )
