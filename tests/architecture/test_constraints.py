"""Every rule that the market's database keeps is broken here on purpose: one nobody tried to break may not exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, ProgrammingError, connection, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F

from ledger.ids import uuid7
from marketplace import clock, migrations
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.demand.services import post_demand
from marketplace.parties.services import make_seat, register_party
from marketplace.supply.envelopes import unlock_with
from marketplace.supply.holders import demo_private_key, ensure_window_key, share_name
from tests.architecture import (
    broken_backups,
    broken_compliance,
    broken_delivery,
    broken_keys,
    broken_proofs,
    broken_seats,
    broken_supply,
)
from tests.journey import world
from tests.owner import as_owner, behind_the_triggers

MIGRATIONS = [
    import_module(f"{migrations.__name__}.{each.name}")
    for each in sorted(iter_modules(migrations.__path__), key=lambda each: each.name)
]
# A need of its own (now part of a statement), and a note beside payouts, until members were paid (0070);
# a force majeure is a judged cause (0070).
GONE = {"need", "forcemajeure", "payoutshare", "payout_shares_make_the_payout", "roll_reply_has_machines"}
APPEND_ONLY = [table for one in MIGRATIONS for table in getattr(one, "APPEND_ONLY", ()) if table not in GONE]


# --- how a rule is broken --------------------------------------------------------------------------------------------
def again(row: models.Model, **changes: Any) -> None:
    """Insert the row once more under a new primary key, with some changes."""
    key = row._meta.pk
    assert key is not None
    if isinstance(key, models.UUIDField):
        row.pk = uuid7(clock.now())
    elif isinstance(key, models.AutoField):
        row.pk = None
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(force_insert=True)


def first(model: type[models.Model], **where: Any) -> Any:
    row = model._default_manager.filter(**where).first()
    assert row is not None, f"the small world has no such {model.__name__}"
    return row


def change(model: type[models.Model], where: dict[str, Any] | None = None, /, **values: Any) -> None:
    row = first(model, **where or {})
    model._default_manager.filter(pk=row.pk).update(**values)


def fresh_window() -> m.Window:
    """A window that still collects demand."""
    standing = m.Window.objects.filter(name="Third window").first()
    if standing:
        return standing
    days = [world.day(n) for n in range(60, 64)]
    return open_window(
        name="Third window", slots=30, starts_at=days[3], demand_closes_at=days[0], no_cancel_from=days[1],
        bidding_closes_at=days[2], gate_unit_hours=1, gate_parties=1, now=clock.now(),
    )  # fmt: skip


def fresh_demand() -> m.Demand:
    """A demand whose terms may still change."""
    return post_demand(
        party=world.party("alder"), window=fresh_window(), reference="breakable", kind="divisible",
        accepted_classes=["H100"], quantity_units=1, start_slot=0, end_slot=5, price_limit_micros=1_000_000,
        sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def change_demand(**values: Any) -> None:
    m.Demand.objects.filter(pk=fresh_demand().pk).update(**values)


def award(reference: str, provider: str, name: str = world.MAIN, **changes: Any) -> None:
    """Write an award that no clearing made."""
    demand, bid = world.demand(reference), world.bid(provider, name)
    start = max(demand.start_slot, bid.start_slot)
    pair = {"demand": demand, "bid": bid, "start_slot": start, "end_slot": start + 1, "units": 1}
    again(first(m.Award), **pair | changes)


def unguarded(make: Callable[[], None]) -> None:
    """A CHECK that a trigger covers is seen only when the trigger sleeps."""
    with behind_the_triggers():
        make()


def owned(make: Callable[[], None]) -> None:
    """The product has no right to that column at all; its owner meets the wall behind."""
    with as_owner():
        make()


def reply() -> None:
    m.RememberedReply.objects.create(
        party=world.party("alder"), key="k", route="/", body_sha256=b"", status=200, reply={}, remembered_at=clock.now()
    )


def twice(make: Callable[[], None]) -> None:
    make()
    make()


def tell(**changes: Any) -> None:
    told = {"party": world.party("alder"), "about": "a", "code": "c", "sentence": "Something.", "at": clock.now()}
    m.Notice.objects.create(**told | changes)


def backup_for_nothing() -> None:
    m.Backup.objects.create(award=first(m.Award, backup=None), bid=first(m.Bid), strike_price_micros=0)


def whole(provider: str = "harbour", **terms: Any) -> None:
    """Award one more unit of an hour to a demand that is whole in these terms; two of its party's are served."""
    demands = m.Demand.objects.filter(reference__in=("genome", "sovereign"))
    unguarded(lambda: demands.update(**{"kind": "window"} | terms) and None)
    award_and_judge("sovereign", provider)


def whole_bid(**terms: Any) -> None:
    unguarded(lambda: m.Bid.objects.filter(party__slug="harbour").update(**terms) and None)
    award_and_judge("climate", "harbour")


def award_and_judge(reference: str, provider: str) -> None:
    """Wholes are judged at the end of a transaction, or now when asked."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS award_keeps_wholes IMMEDIATE")
    award(reference, provider, start_slot=6, end_slot=7)


def circle(*slugs: str) -> None:
    """Let each party own the next, and the last the first."""
    for slug, owner in zip(slugs, (slugs[-1], *slugs), strict=False):
        m.Party.objects.filter(slug=slug).update(parent=world.party(owner))


def stated(demand: m.Demand | None = None, **changes: Any) -> m.DemandStatement:
    """What a buyer says of a demand; without one, of a demand that may still change."""
    said = {
        "id": uuid7(clock.now()), "demand": demand or fresh_demand(), "version": 1, "segment": "enterprise",
        "quote_micros": 3_000_000, "incumbent": "a cloud", "quote_source": "an offer", "quoted_on": "2026-11-01",
        "stated_at": clock.now(),
    }  # fmt: skip
    return m.DemandStatement.objects.create(**said | changes)


def state_twice() -> None:
    twice(lambda: stated() and None)


def differ(statement: dict[str, Any] | None = None, settled: bool = True, **changes: Any) -> None:
    """Write what the first settled lease saved, against what its buyer is made to have said in time."""
    lease = first(m.Lease, settlement_line__isnull=False)
    said: list[m.DemandStatement] = []
    unguarded(lambda: said.append(stated(**{"demand": lease.demand} | (statement or {}))))
    if not settled:
        unguarded(lambda: m.SettlementLine.objects.filter(lease=lease).delete() and None)
    row = {"lease": lease, "statement": said[0], "delivered_unit_minutes": 60, "paid_micros": 2_000_000,
           "quoted_micros": 3_000_000, "saved_micros": 1_000_000, "residency": {}, "measured_at": clock.now()}
    m.LeaseDifference.objects.create(**row | changes)


def compared(**changes: Any) -> None:
    ends = {f"{side}_{end}_micros": 1 for side in ("now", "planned") for end in ("low", "base", "high")}
    m.Comparison.objects.create(id=uuid7(clock.now()), party=world.party("alder"), name="n", curve="batch", inputs={},
                                made_at=clock.now(), **ends | changes)  # fmt: skip


def seat_of_nobody() -> None:
    seat = make_seat(party=world.party("alder"), email="a@b.example", password="correct horse", role="finance",
                     now=clock.now())  # fmt: skip
    m.Seat.objects.filter(pk=seat.pk).update(role="king")


def appeal(**changes: Any) -> m.Appeal:
    facts = {"case": first(m.SlashCase), "person": "p", "grounds": "g", "opened_at": world.day(1),
             "decide_by": world.day(15)}  # fmt: skip
    standing = m.Appeal.objects.first()
    return standing or m.Appeal.objects.create(id=uuid7(clock.now()), **facts | changes)


def opinion(**changes: Any) -> None:
    facts = {"appeal": appeal(), "judge": "j", "upholds": True, "reason": "r", "given_at": world.day(2)}
    m.Opinion.objects.create(**facts | changes)


def early_credit(**changes: Any) -> None:
    facts = {"lease": world.lease("genome"), "step_bps": 1000, "amount_micros": 1, "down_minutes": 60,
             "evidence_hash": bytes(32), "broken_at": clock.now(), "made_at": clock.now()}  # fmt: skip
    m.EarlyCredit.objects.create(id=uuid7(clock.now()), **facts | changes)


def born_proven() -> None:
    standing = world.node_class("granite").standing
    unguarded(lambda: m.Standing.objects.filter(pk=standing.pk).delete() and None)
    standing.save(force_insert=True)


def move_without_a_reason() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS standing_moves_with_its_reason IMMEDIATE")
    change(m.Standing, {"state": "PROVEN"}, state="DEGRADED")


def leave_with_an_open_lease() -> None:
    lease = first(m.Lease, node_class__standing__state="PROVEN")
    m.Lease.objects.filter(pk=lease.pk).update(state="delivering")
    m.Standing.objects.filter(node_class=lease.node_class).update(state="UNBONDING")


def on_probation(provider: str) -> None:
    standings = m.Standing.objects.filter(node_class=world.node_class(provider))
    unguarded(lambda: standings.update(state="PROBATION") and None)


def bid_on_probation(**terms: Any) -> None:
    """harbour has 16 units: a tenth of them is one."""
    bid = sealed_into(fresh_window(), "harbour")
    on_probation("harbour")
    unguarded(lambda: admission(month=bid.window.starts_at.date().replace(day=1), unit_hours=10**6, state="ADMITTED",
                                decided_at=clock.now()))  # fmt: skip
    open_with(bid, **terms)


def award_a_high_tier_to_probation() -> None:
    on_probation("granite")
    award("genome", "granite", start_slot=29, end_slot=30)
def admission(**changes: Any) -> None:
    """Join the waitlist of a month in which nobody waits."""
    told = {"id": uuid7(clock.now()), "node_class": world.node_class("harbour"), "month": date(2031, 1, 1),
            "zone": "EU", "unit_hours": 1, "asked_at": clock.now()}  # fmt: skip
    m.Admission.objects.create(**told | changes)


def line(**changes: Any) -> m.FundingLine:
    told = {"id": uuid7(clock.now()), "party": world.party("alder"), "kind": "purchase_order", "number": "PO 1",
            "limit_micros": world.USD, "valid_until": world.day(400), "asked_by": "a@b.example",
            "asked_at": clock.now()}  # fmt: skip
    return m.FundingLine.objects.create(**told | changes)


def approved_line(**changes: Any) -> m.FundingLine:
    row = line(**changes)
    row.state, row.decided_by, row.decided_at = "APPROVED", "b@b.example", clock.now()
    row.save()
    return row


def fund_by(row: m.FundingLine, **changes: Any) -> None:
    """Let a line stand behind a demand of one dollar an hour."""
    change_demand(**{"state": "funded", "hold_id": uuid7(clock.now()), "funded_at": clock.now(),
                     "funding_kind": row.kind, "funding_line": row, "end_slot": 1} | changes)  # fmt: skip


def standing_demand(**changes: Any) -> m.StandingDemand:
    told = {"id": uuid7(clock.now()), "party": world.party("alder"), "reference": "lasts", "terms": {},
            "price_limit_micros": 1_000_000, "renewal_cap_ppm": 100_000, "funding_kind": "escrow",
            "starts_at": world.day(0), "ends_at": world.day(400), "made_at": clock.now()}  # fmt: skip
    return m.StandingDemand.objects.create(**told | changes)


def entry(**changes: Any) -> m.StandingEntry:
    demand, standing = fresh_demand(), m.StandingDemand.objects.filter(reference="lasts").first() or standing_demand()
    told = {"standing": standing, "window": demand.window, "demand": demand, "limit_micros": demand.price_limit_micros,
            "cap_ppm": 100_000, "at": clock.now()}  # fmt: skip
    return m.StandingEntry.objects.create(**told | changes)


def second_demand() -> m.Demand:
    row = fresh_demand()
    again(row, reference="second", accepted_rank=99)
    return row


def renewed_above_its_cap() -> None:
    with behind_the_triggers():
        row = entry(paid_micros=1_000_000)
    m.Demand.objects.filter(pk=row.demand_id).update(price_limit_micros=1_100_000)  # just under it
    m.Demand.objects.filter(pk=row.demand_id).update(price_limit_micros=1_100_100)


def gate_rule(window: m.Window, amount_micros: int = 1) -> None:
    m.GateRule.objects.create(window=window, resource_class_id="H100", notional_micros=amount_micros)


def between_two(buyer: str = "elm", provider: str = "harbour") -> m.Window:
    """A window of two others that takes bids."""
    row = fresh_window()
    m.Window.objects.filter(pk=row.pk).update(kind="bilateral")
    m.Pair.objects.create(window=row, buyer=world.party(buyer), provider=world.party(provider))
    return row


UNDER_SEAL = dict.fromkeys(("quantity_units", "start_slot", "end_slot", "price_ask_micros", "minimum_units", "sla",
                            "sla_targets"))  # fmt: skip


def bid_into(window: m.Window, provider: str = "granite") -> m.Bid:
    """A bid in a window that takes bids, under seal."""
    m.Window.objects.filter(pk=window.pk).update(state="BIDDING")
    bid = first(m.Bid, party__slug=provider)
    again(bid, window=window, reference="in", accepted_rank=99, state="sealed", **UNDER_SEAL)
    return bid


def sealed_into(window: m.Window, provider: str = "granite") -> m.Bid:
    """The same, of a class that was let in."""
    found: list[m.Bid] = []
    unguarded(lambda: found.append(bid_into(window, provider)))
    return found[0]


def open_with(bid: m.Bid, **terms: Any) -> None:
    """Write the terms of a bid once bidding is over."""
    unguarded(lambda: m.Window.objects.filter(pk=bid.window_id).update(state="CLEARING") and None)
    small = {"quantity_units": 1, "start_slot": 0, "end_slot": 5, "price_ask_micros": 1_000_000, "minimum_units": 0,
             "sla_id": "99.0", "state": "opened"}  # fmt: skip
    m.Bid.objects.filter(pk=bid.pk).update(**small | terms)


def signal(**changes: Any) -> m.Signal:
    told = {"id": uuid7(clock.now()), "kind": "agents_late", "title": "Late", "direction": "lowers", "owner": "a",
            "evidence_link": "https://example.org", "raised_at": clock.now()}  # fmt: skip
    return m.Signal.objects.create(**told | changes)


def close_signal(row: m.Signal, **changes: Any) -> None:
    told = {"closed_at": clock.now(), "closed_by": "b", "closing_reason": "over"}
    m.Signal.objects.filter(pk=row.pk).update(**told | changes)


def review(**changes: Any) -> None:
    told = {"quarter": "2030-Q1", "person": "a", "verdict": "fine", "facts": {}, "at": clock.now()}
    m.GateReview.objects.create(**told | changes)


def evidence(no: int = 2, have: int = 9, is_complete: bool = True) -> m.PhaseEvidence:
    codes = m.PhaseCondition.objects.filter(phase=no).values_list("code", flat=True)
    figures = {code: {"have": have} for code in codes}
    return m.PhaseEvidence.objects.create(phase_id=no, hash=bytes(32), figures=figures, is_complete=is_complete,
                                          at=clock.now())  # fmt: skip


def sign_off(*people: str) -> None:
    row = evidence()
    for person in people:
        if person and not m.Seat.objects.filter(user__email=person).exists():
            house = register_party(slug="foundation", name="F", kind="foundation", country="CH", parent_country="CH",
                                   now=clock.now())  # fmt: skip
            make_seat(party=house, email=person, password="correct horse", role="operations", now=clock.now())
        m.PhaseSignOff.objects.create(evidence=row, person=person, at=clock.now())


def phase_opens(no: int = 2, **changes: Any) -> None:
    told = {"is_open": True, "opened_at": clock.now(), "evidence_hash": bytes(32)}
    m.Phase.objects.filter(no=no).update(**told | changes)


def sign_and_freeze() -> None:
    sign_off("a@b.example", "b@b.example")
    signal(freezes_id=2)
    phase_opens()


def said_by_alder(**changes: Any) -> None:
    """What a buyer says before it has a demand."""
    told = {"id": uuid7(clock.now()), "party": world.party("alder"), "version": 1, "segment": "enterprise",
            "pain": "it is slow", "stated_at": clock.now()}  # fmt: skip
    m.DemandStatement.objects.create(**told | changes)


def invoice(**changes: Any) -> m.Invoice:
    """An invoice of alder's for the main window that nobody has charged anything on."""
    told = {"id": uuid7(clock.now()), "number": "99999-001", "party": world.party("alder"), "window": world.window(),
            "amount_micros": 0, "issued_at": clock.now(), "due_at": clock.now(), "paid_at": clock.now(),
            "paid_reference": "in advance"}  # fmt: skip
    return m.Invoice.objects.create(**told | changes)


def charged(**changes: Any) -> None:
    """A line of that invoice for the first award of genome's, as the first lease of its buyer would have it."""
    award = first(m.Award, demand=world.demand("genome"))
    m.InvoiceLine.objects.create(**{"invoice": invoice(), "kind": "capacity", "award": award,
                                    "amount_micros": award.amount_micros} | changes)  # fmt: skip


def taken_off(**changes: Any) -> None:
    verdict = world.lease("genome").verdict
    m.InvoiceLine.objects.create(**{
        "invoice": m.Invoice.objects.filter(number="99999-001").first() or invoice(), "kind": "not_earned",
        "verdict": verdict, "amount_micros": -verdict.lease.settlement_line.returned_micros} | changes)  # fmt: skip


def tax_rule(**changes: Any) -> m.TaxRule:
    """A tax of a fifth that is proposed and, unless told otherwise, in force on buyers of alder's country."""
    now = clock.now()
    told = {"id": uuid7(now), "country": "DE", "rate_ppm": 200_000, "words": "VAT", "valid_from": now,
            "proposed_by": "ann", "proposed_at": now}  # fmt: skip
    rule = m.TaxRule.objects.create(**told | changes)
    m.TaxRule.objects.filter(pk=rule.pk, approved_at=None).update(approved_by="ben", approved_at=now)
    return rule


def taxed(*, is_of_an_order: bool, amount_micros: int) -> None:
    """An invoice whose one line is a tax."""
    rule = tax_rule()
    behind = m.FundingLine.objects.create(
        id=uuid7(clock.now()), party=world.party("alder"), kind="purchase_order", number="PO", limit_micros=1,
        valid_until=world.day(400), asked_by="a", asked_at=clock.now()) if is_of_an_order else None  # fmt: skip
    of_order = invoice(order=behind, amount_micros=amount_micros)
    m.InvoiceLine.objects.create(invoice=of_order, kind="tax", tax_rule=rule, amount_micros=amount_micros)


def taxed_twice() -> None:
    taxed(is_of_an_order=True, amount_micros=0)
    again(first(m.InvoiceLine, kind="tax"))


def uninvoiced(make: Callable[[], None]) -> None:
    """The world's own invoices out of the way: an award is charged once."""
    with behind_the_triggers():
        m.InvoiceLine.objects.all().delete()
        m.Invoice.objects.all().delete()
    make()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def unsettled(reference: str, make: Callable[[], Any]) -> Callable[[], None]:
    """As long as a lease is judged and its settlement is not final."""

    def attempt() -> None:
        m.Lease.objects.filter(demand__reference=reference).update(state="judged")
        make()

    return attempt


def stopped(**changes: Any) -> None:
    told = {"party": world.party("alder"), "cause": "99999-001", "at": clock.now()}
    m.DemandStop.objects.create(**told | changes)


def in_default() -> None:
    """The service would refuse first: the row is written past it."""
    row = fresh_demand()
    stopped()
    again(row, reference="another", accepted_rank=99)


def in_phase_one(make: Callable[[], None]) -> Callable[[], None]:
    """As the market begins; the small world stands in phase 3."""

    def attempt() -> None:
        with behind_the_triggers():
            m.Phase.objects.filter(no__gt=1).update(is_open=False, opened_at=None, evidence_hash=None)
            m.PhaseSignOff.objects.all().delete()
            m.PhaseEvidence.objects.all().delete()
            m.Flag.objects.filter(opens_in_phase__gt=1).update(is_on=False)
        make()

    return attempt


def leg(**changes: Any) -> m.DemandLeg:
    told = {"demand": fresh_demand(), "order": world.party("alder").pk, "role": "spread", "no": 1, "of": 2}
    return m.DemandLeg.objects.create(**told | changes)


def second_leg() -> m.Demand:
    leg()
    return second_demand()


def two_legs_of_one_owner() -> None:
    """Two demands that harbour serves are made legs of one order, and one of them is served once more."""
    climate, tardy = world.demand("climate"), world.demand("imaging")
    one = first(m.Award, demand__in=(climate, tardy))
    with behind_the_triggers():
        m.DemandLeg.objects.create(demand=climate, order=climate.pk, role="spread", no=1, of=2)
        m.DemandLeg.objects.create(demand=tardy, order=climate.pk, role="spread", no=2, of=2)
    again(one, demand=tardy if one.demand_id == climate.pk else climate)


def above_the_ceiling() -> None:
    """A reading of a lease whose class was under cost recovery when it was signed."""
    lease = first(m.Lease, window=world.window(), provider__slug="harbour")
    with behind_the_triggers():
        m.FundingSource.objects.create(code="cost", name="c", policy="cost_recovery", source="s")
        m.FundingTag.objects.create(
            id=uuid7(clock.now()), node_class=lease.node_class, source_id="cost", units=1, from_at=world.day(0),
            until_at=world.day(400), floor_micros=0, ceiling_micros=1, seat=first(m.Seat), made_at=world.day(0),
        )  # fmt: skip
    again(first(m.Reading, lease=lease, earned_micros__gt=1000), slot=999)


def switched_off(flag: str, make: Callable[[], None]) -> Callable[[], None]:
    def attempt() -> None:
        m.Flag.objects.filter(name=flag).update(is_on=False)
        make()

    return attempt


def fund_fresh() -> None:
    change_demand(state="funded", hold_id=uuid7(clock.now()), funded_at=clock.now(), funding_kind="escrow")


def suspect(**changes: Any) -> None:
    facts = {"lease": first(m.Lease), "kind": "circular", "owners": [], "came_round_micros": 1}
    m.SuspectFlow.objects.create(**facts | {"is_tagged_in_books": True, "found_at": clock.now()} | changes)


def limits(**changes: Any) -> m.MakerLimits:
    """Limits of the Foundation in force, wide enough for `quote`."""
    facts: dict[str, Any] = {
        "id": uuid7(clock.now()), "resource_classes": ["H100"], "notional_max_micros": 10**9,
        "inventory_max_unit_hours": 10**6, "loss_max_micros": 10**9, "spread_max_ppm": 500_000, "reason": "a start",
        "proposed_by": "ann", "proposed_at": clock.now(), "approved_by": "ben", "approved_at": clock.now(),
    }  # fmt: skip
    return m.MakerLimits.objects.create(**facts | changes)


def stop(rule: str = "loss") -> None:
    m.MakerStop.objects.create(limits=limits(), rule=rule, loss_micros=1, reason="enough", stopped_by="ann",
                               at=clock.now())  # fmt: skip


def lose() -> None:
    """Let the Foundation have been the buyer of what was settled."""
    m.Party.objects.filter(slug="alder").update(kind="foundation")


def quote() -> None:
    """Fund a demand of the Foundation's own: 5 unit-hours at a dollar, beside a reference price of two."""
    demand = fresh_demand()
    m.Party.objects.filter(slug="alder").update(kind="foundation")
    m.Demand.objects.filter(pk=demand.pk).update(state="funded", hold_id=demand.pk)


def bare_bid() -> m.Bid:
    """A bid without a seal, in a window that takes bids."""
    return sealed_into(fresh_window())


def bid_in_the_open() -> None:
    bid = bare_bid()
    m.Bid.objects.filter(pk=bid.pk).update(price_ask_micros=100)


def early_share() -> None:
    """Give the true share of a window's key a moment before bidding is over."""
    window = bare_bid().window
    ensure_window_key(window=window, now=clock.now())
    row = window.key.shares.get(number=1)
    key = demo_private_key(row.holder_key.holder_id, row.holder_key.version)
    share = unlock_with(key, bytes(row.locked), share_name(window.pk, 1))
    early = window.bidding_closes_at - timedelta(microseconds=1)
    m.WindowShare.objects.filter(pk=row.pk).update(released=share, released_at=early)


CONSTRAINTS: dict[str, Callable[[], None]] = {
    "audit_line_names_actor_and_reason": lambda: again(first(m.AuditLine), no=10**6, reason=""),
    "audit_numbers_start_at_one": lambda: again(first(m.AuditLine), no=0),
    "there_is_one_market_clock": lambda: again(first(m.MarketClock), id=2),
    "market_time_never_runs_behind": lambda: change(m.MarketClock, offset_seconds=-1),
    "progress_stays_within_its_total": lambda: (
        m.Progress.objects.create(job="j", phase="p", done=2, total=1, updated_at=clock.now()), None)[1],
    "party_kind_is_known": lambda: change(m.Party, kind="reseller"),
    "party_country_is_two_capitals": lambda: change(m.Party, country="de"),
    "party_is_not_its_own_parent": lambda: change(m.Party, parent=F("id")),
    "seat_role_is_known": seat_of_nobody,
    "one_reply_per_idempotency_key": lambda: twice(reply),
    "zone_member_starts_once": lambda: again(first(m.ZoneMember)),
    "zone_member_ends_after_it_starts": lambda: unguarded(
        lambda: change(m.ZoneMember, valid_until=F("valid_from"))),
    "tier_is_zero_to_three": lambda: again(first(m.Tier), level=4),
    "sla_is_a_share_below_one": lambda: change(m.SlaPreset, availability_bps=10_000),
    "window_state_is_known": lambda: unguarded(lambda: change(m.Window, state="PAUSED")),
    "window_has_1_to_744_slots": lambda: change(m.Window, slots=745),
    "window_times_follow_each_other": lambda: change(m.Window, bidding_closes_at=F("starts_at") + timedelta(hours=1)),
    "window_gate_asks_for_something": lambda: change(m.Window, gate_parties=0),
    "window_cap_is_a_share": lambda: change(m.Window, concentration_ppm=10**6 + 1),
    "window_budget_is_not_negative": lambda: change(m.Window, foundation_budget_micros=-1),
    "window_enters_a_state_once": lambda: again(first(m.WindowTransition)),
    "window_transition_has_a_reason": lambda: again(first(m.WindowTransition), reason=""),
    "demand_reference_is_used_once": lambda: again(fresh_demand(), accepted_rank=99),
    "demand_rank_is_unique_in_window": lambda: again(fresh_demand(), reference="another"),
    "demand_kind_is_known": lambda: change_demand(kind="spot"),
    "demand_state_is_known": lambda: change_demand(state="dreamt"),
    "demand_quantity_is_1_to_2_20": lambda: change_demand(quantity_units=2**20 + 1),
    "demand_limit_is_a_price": lambda: change_demand(price_limit_micros=0),
    "demand_limit_lies_on_the_tick": lambda: change_demand(price_limit_micros=150),
    "demand_slots_run_forward": lambda: change_demand(start_slot=5),
    "demand_minimum_is_within_its_quantity": lambda: change_demand(kind="window", minimum_units=2),
    "divisible_demand_takes_any_part": lambda: change_demand(is_one_site=True),
    "block_demand_has_no_other_minimum": lambda: change_demand(kind="block", minimum_units=1),
    "demand_latency_needs_a_vantage": lambda: change_demand(latency_ms_max=5),
    "funded_demand_has_its_hold": lambda: change_demand(state="funded"),
    "site_countries_are_two_capitals": lambda: unguarded(lambda: change(m.Site, keys_country="D1")),
    "one_latency_per_site_and_vantage": lambda: again(first(m.SiteLatency)),
    "one_node_class_per_site_and_kind": lambda: again(first(m.NodeClass), chain_class=99),
    "node_class_has_units": lambda: unguarded(lambda: change(m.NodeClass, units=0)),
    "standing_is_known": lambda: unguarded(lambda: change(m.Standing, state="FAMOUS")),
    "node_class_tier_is_zero_to_three": lambda: unguarded(lambda: change(m.NodeClass, tier=4)),
    "proven_standing_has_its_proof": lambda: change(m.Standing, {"state": "PROVEN"}, proven_until=None),
    "standing_change_has_a_reason": lambda: again(first(m.StandingChange), reason=""),
    "benchmark_epoch_rises": lambda: again(first(m.Benchmark)),
    "benchmark_kind_is_known": lambda: change(m.Benchmark, kind=3),
    "benchmark_times_follow_each_other": lambda: change(m.Benchmark, valid_until=F("finished_at")),
    "a_verifier_signs_once": lambda: again(first(m.Attestation)),
    "bid_reference_is_used_once": lambda: change(
        m.Bid, {"party__slug": "granite", "window__name": world.MAIN}, reference="granite Early window"),
    "bid_rank_is_unique_in_window": lambda: change(
        m.Bid, {"window__name": world.MAIN, "accepted_rank": 1}, accepted_rank=2),
    "bid_state_is_known": lambda: change(m.Bid, state="hidden"),
    "sealed_bid_tells_nothing": lambda: change(m.Bid, sla=None),
    "bid_seal_holds_something": lambda: again(first(m.BidSeal), bid=bare_bid(), body=b""),
    "holder_names_its_organisation": lambda: again(first(m.KeyHolder), code="nobody", organisation=""),
    "holder_key_is_versioned_once": lambda: again(first(m.HolderKey)),
    "window_key_ends_by_something": lambda: change(m.WindowKey, ended_by="boredom"),
    "window_share_is_numbered_once": lambda: again(first(m.WindowShare)),
    "window_share_is_one_of_three": lambda: again(first(m.WindowShare), number=4),
    "released_share_has_its_time": lambda: unguarded(
        lambda: change(m.WindowShare, released=b"share", released_at=None)),
    "lost_share_is_gone": lambda: change(m.WindowShare, lost_at=clock.now()),
    "bid_quantity_is_1_to_2_20": lambda: change(m.Bid, quantity_units=0),
    "bid_ask_is_a_price": lambda: change(m.Bid, price_ask_micros=10**9 + 100),
    "bid_ask_lies_on_the_tick": lambda: change(m.Bid, price_ask_micros=101),
    "bid_slots_run_forward": lambda: change(m.Bid, start_slot=F("end_slot")),
    "bid_targets_are_on_the_menu": lambda: change(m.Bid, sla_targets={"latency_p95_ms_max": 21}),
    "bid_targets_do_not_contradict": lambda: change(
        m.Bid, sla_targets={"latency_p50_ms_max": 50, "latency_p95_ms_max": 20}),
    "demand_targets_are_on_the_menu": lambda: change_demand(sla_targets={"uptime_max": 1}),
    "demand_targets_do_not_contradict": lambda: change_demand(
        sla_targets={"latency_p95_ms_max": 100, "latency_p99_ms_max": 50}),
    "lease_targets_are_on_the_menu": lambda: change(m.Lease, sla_targets=["latency_p95_ms_max"]),
    "bid_minimum_is_within_its_quantity": lambda: change(m.Bid, minimum_units=F("quantity_units") + 1),
    "clearing_attempt_is_numbered_once": lambda: again(first(m.ClearingAttempt)),
    "a_window_is_tried_three_times": lambda: again(first(m.ClearingAttempt), number=4),
    "refused_attempt_says_why": lambda: again(first(m.ClearingAttempt), number=2, outcome="refused"),
    "clearing_gap_is_bound_less_welfare": lambda: again(first(m.Clearing), gap_micros=1),
    "clearing_sigma_is_not_negative": lambda: again(first(m.Clearing), sigma_numerator=-1),
    "bundle_file_is_written_once": lambda: again(first(m.BundleFile)),
    "one_price_row_per_signature": lambda: again(first(m.PriceRow)),
    "award_is_made_once": lambda: again(first(m.Award)),
    "award_has_units_and_money": lambda: again(first(m.Award), amount_micros=0),
    "award_slots_run_forward": lambda: again(first(m.Award), start_slot=5, end_slot=5),
    "award_parts_make_its_amount": lambda: again(first(m.Award), base_micros=0),
    "backup_strike_is_a_price": backup_for_nothing,
    "one_indicative_price_per_class": lambda: again(first(m.IndicativePrice)),
    "indicative_range_runs_upward": lambda: change(m.IndicativePrice, high_micros=F("low_micros") - 1),
    "indicative_price_names_its_bids": lambda: change(m.IndicativePrice, method="cleared_bids", bids=0),
    "a_party_is_told_once": lambda: twice(tell),
    "notice_says_something": lambda: tell(sentence=""),
    "one_reason_per_demand": lambda: again(first(m.LineReason, side="demand")),
    "one_reason_per_bid": lambda: again(first(m.LineReason, side="bid")),
    "reason_is_about_one_line": lambda: again(first(m.LineReason, side="bid"), side="demand"),
    "mandate_nonce_is_used_once": lambda: again(first(m.Mandate)),
    "mandate_allows_some_spend": lambda: again(first(m.Mandate), max_spend_micros=0),
    "lock_batch_is_numbered_once": lambda: again(first(m.LockBatch), intent_key="another"),
    "lock_batch_moves_money": lambda: change(m.LockBatch, total_micros=0),
    "one_lease_per_demand_and_bid": lambda: again(first(m.Lease, is_armed=False)),
    "lease_state_is_known": lambda: change(m.Lease, state="sublet"),
    "running_lease_is_locked": lambda: change(m.Lease, lock_batch=None),
    "refused_lease_says_why": lambda: change(m.Lease, state="refused"),
    "lease_has_a_fee": lambda: change(m.Lease, fee_micros=0),
    "lease_slots_run_forward": lambda: change(m.Lease, start_slot=F("end_slot")),
    "report_sequence_counts_up": lambda: change(m.ReportChain, sequence=-1),
    "one_reading_per_lease_and_slot": lambda: again(first(m.Reading)),
    "reading_minutes_fit_the_hour": lambda: again(first(m.Reading), slot=999, minutes_billable=61),
    "reading_earns_at_most_its_fee": lambda: again(first(m.Reading), slot=999, amount_micros=0, earned_micros=1),
    "breach_has_its_instant": lambda: again(first(m.Verdict), is_breach=True, breach_at=None),
    "verdict_returns_what_lies_above_the_ceiling": lambda: again(first(m.Verdict), above_ceiling_micros=10**15),
    "invoice_is_of_no_negative_amount": lambda: invoice(amount_micros=-1) and None,
    "invoice_is_due_after_it_is_issued": lambda: invoice(due_at=world.day(0)) and None,
    "invoice_is_dunned_three_times": lambda: invoice(dunned=4) and None,
    "paid_invoice_says_how": lambda: invoice(paid_reference="") and None,
    "invoice_without_an_order_is_paid": lambda: invoice(paid_at=None, paid_reference="") and None,
    "invoice_line_maps_to_an_award_or_a_verdict": lambda: uninvoiced(lambda: charged(kind="credit")),
    "a_verdict_is_taken_off_once": lambda: uninvoiced(lambda: twice(taken_off)),
    "tax_rate_is_a_share": lambda: tax_rule(rate_ppm=10**6 + 1) and None,
    "tax_rule_says_who_approved_it": lambda: tax_rule(approved_by="ben") and None,
    "tax_rule_is_of_two_people": lambda: tax_rule(proposed_by="ben") and None,
    "tax_rule_is_approved_before_it_begins": lambda: tax_rule(valid_from=world.day(0)) and None,
    "one_tax_rule_begins_at_a_time": lambda: twice(lambda: tax_rule(valid_from=world.day(300))),
    "one_tax_line_per_invoice": lambda: uninvoiced(taxed_twice),
    "a_cause_stops_demand_once": lambda: twice(stopped),
    "lifted_stop_says_by_whom": lambda: stopped(lifted_at=clock.now()),
    "leg_role_is_known": lambda: leg(role="left") and None,
    "leg_is_one_of_its_order": lambda: leg(no=3) and None,
    "legs_of_an_order_are_numbered_once": lambda: leg(demand=second_leg()) and None,
    "only_an_insensitive_leg_has_a_fallback": lambda: leg(fallback_venue="elsewhere") and None,
    "verdict_money_is_not_negative": lambda: again(first(m.Verdict), unpaid_micros=-1),
    "credit_is_positive": lambda: change(m.Credit, amount_micros=0),
    "credit_source_is_known": lambda: change(m.Credit, source="goodwill"),
    "settlement_epochs_start_at_one": lambda: change(m.Settlement, epoch=0),
    "one_settlement_per_epoch": lambda: again(first(m.Settlement), intent_key="settle:again"),
    "settlement_is_final_or_refused": lambda: change(m.Settlement, final_at=clock.now(), refused_at=clock.now()),
    "settlement_retry_says_who_asked_and_why": lambda: change(
        m.Settlement, retry_asked_at=clock.now(), retry_asked_by="ada@foundation.example"
    ),
    "settlement_retry_is_of_two_people": lambda: change(
        m.Settlement, retry_asked_at=clock.now(), retry_asked_by="ada@foundation.example", final_at=None,
        retry_reason="the limit was raised", retry_let_by="ada@foundation.example", refused_at=clock.now(),
    ),
    "settlement_retry_is_of_a_refused_call": lambda: change(
        m.Settlement, retry_asked_at=clock.now(), retry_asked_by="ada@foundation.example",
        retry_reason="the limit was raised", retry_let_by="max@foundation.example",
    ),
    "settlement_is_put_off_before_it_is_final": lambda: change(m.Settlement, put_off_until=clock.now()),
    "settlement_line_splits_what_was_earned": lambda: again(first(m.SettlementLine), earned_micros=1),
    "settlement_line_has_no_negative_part": lambda: again(first(m.SettlementLine), credit_micros=-1),
    "one_payout_per_class_window_and_part": lambda: again(first(m.Payout), intent_key="another"),
    "payout_is_positive": lambda: change(m.Payout, amount_micros=0),
    "slash_outcome_is_known": lambda: unguarded(
        lambda: change(m.SlashCase, {"outcome": "warned"}, outcome="forgiven")),
    "only_an_executed_slash_pays": lambda: change(m.SlashCase, {"outcome": "warned"}, to_pool_micros=1),
    "a_held_back_slash_asks_no_stake": lambda: change(m.SlashCase, {"outcome": "held_back"}, to_buyer_micros=1),
    "appeal_names_its_grounds": lambda: appeal(grounds="") and None,
    "appeal_is_decided_after_it_opens": lambda: appeal(decide_by=world.day(0)) and None,
    "a_judge_has_one_opinion": lambda: twice(opinion),
    "opinion_has_a_reason": lambda: opinion(reason=""),
    "statement_is_numbered_once": state_twice,
    "statement_segment_is_known": lambda: stated(segment="everybody") and None,
    "statement_spend_is_not_negative": lambda: stated(present_usd_per_year=-1) and None,
    "counterfactual_says_who_when_and_where_from": lambda: stated(quote_source="") and None,
    "difference_is_quoted_less_paid": lambda: differ(saved_micros=1_000_001),
    "difference_is_of_something_delivered": lambda: differ(
        delivered_unit_minutes=0, quoted_micros=0, saved_micros=-2_000_000),
    "comparison_ranges_run_upward": lambda: compared(now_low_micros=2),
    "a_step_is_credited_once": lambda: twice(early_credit),
    "early_credit_is_positive": lambda: early_credit(amount_micros=0),
    "early_credit_is_of_a_known_step": lambda: early_credit(step_bps=500),
    "posted_credit_has_its_call": lambda: early_credit(posted_at=clock.now()),
    "settlement_line_returns_what_was_credited_before": lambda: again(
        first(m.SettlementLine), credited_before_micros=-1),
    "no_slash_before_its_time_lock": lambda: change(
        m.SlashCase, {"outcome": "executed"}, executed_at=F("executable_at") - timedelta(seconds=1)),
    "forfeit_is_positive": lambda: again(first(m.Forfeit), amount_micros=0),
    "a_case_forfeits_once_per_lease": lambda: again(first(m.Forfeit), evidence_hash=bytes(32), intent_key="another"),
    "window_cover_is_a_ratio": lambda: change(m.Window, cover_ppm=0),
    "funded_demand_names_its_funding": lambda: change_demand(
        state="funded", hold_id=uuid7(clock.now()), funded_at=clock.now()),
    "demand_funding_is_known": lambda: change_demand(funding_kind="promise"),
    "demand_has_a_line_when_one_backs_it": lambda: change_demand(funding_kind="grant"),
    "funding_line_is_asked_for_once": lambda: twice(lambda: line() and None),
    "funding_line_kind_is_known": lambda: line(kind="voucher") and None,
    "funding_line_state_is_known": lambda: unguarded(
        lambda: line(state="LOST", decided_by="b", decided_at=clock.now()) and None),
    "funding_line_has_a_limit": lambda: line(limit_micros=0) and None,
    "funding_line_is_decided_by_another": lambda: approved_line(asked_by="b@b.example") and None,
    "standing_demand_reference_is_used_once": lambda: twice(lambda: standing_demand() and None),
    "standing_demand_state_is_known": lambda: standing_demand(state="asleep", closed_at=clock.now()) and None,
    "standing_demand_lasts": lambda: standing_demand(ends_at=world.day(0)) and None,
    "standing_demand_cap_is_a_share": lambda: standing_demand(renewal_cap_ppm=10**6 + 1) and None,
    "closed_standing_demand_says_when": lambda: standing_demand(state="ended") and None,
    "standing_demand_enters_a_window_once": lambda: (entry(), entry(demand=second_demand()), None)[2],
    "renewal_stays_under_its_cap": lambda: unguarded(lambda: entry(paid_micros=900_000) and None),
    "one_gate_rule_per_class": lambda: twice(lambda: gate_rule(fresh_window())),
    "gate_rule_asks_for_something": lambda: gate_rule(fresh_window(), 0),
    "a_pair_is_of_two": lambda: between_two("elm", "elm") and None,
    "a_class_waits_once_a_month": lambda: twice(admission),
    "admission_state_is_known": lambda: unguarded(lambda: admission(state="DREAMT", decided_at=clock.now())),
    "admission_has_unit_hours": lambda: admission(unit_hours=0),
    "admission_month_begins_on_its_first": lambda: admission(month=date(2031, 1, 2)),
    "decided_admission_says_when": lambda: (
        admission(), m.Admission.objects.filter(state="WAITLIST").update(state="WITHDRAWN"), None)[2],
    "statement_of_a_buyer_says_what_hurts": lambda: said_by_alder(pain=""),
    "statement_of_a_buyer_is_numbered_once": lambda: twice(said_by_alder),
    "statement_is_of_a_demand_or_a_buyer": lambda: said_by_alder(party=None),
    "phase_is_one_of_four": lambda: (m.Phase.objects.create(no=5, name="More"), None)[1],
    "open_phase_says_when": lambda: unguarded(lambda: phase_opens(opened_at=None)),
    "phase_names_a_condition_once": lambda: again(first(m.PhaseCondition)),
    "phase_condition_asks_for_something": lambda: again(first(m.PhaseCondition), code="nothing", needed=0),
    "a_person_signs_evidence_once": lambda: sign_off("a@b.example", "a@b.example"),
    "sign_off_names_its_person": lambda: unguarded(lambda: sign_off("")),
    "signal_direction_is_known": lambda: signal(direction="left") and None,
    "signal_names_owner_and_evidence": lambda: signal(owner="") and None,
    "only_a_bearish_signal_freezes": lambda: signal(direction="raises", freezes_id=2) and None,
    "closed_signal_says_who_and_why": lambda: close_signal(signal(), closed_by="a"),
    "review_names_person_and_verdict": lambda: review(verdict=""),
    "review_is_of_a_quarter": lambda: review(quarter="2030-Q5"),
    "suspicion_is_of_a_known_kind": lambda: suspect(kind="odd"),
    "suspicion_names_what_came_round": lambda: suspect(came_round_micros=0),
    "maker_limits_take_two_people": lambda: limits(approved_by="ann"),
    "maker_limits_name_who_and_why": lambda: limits(reason=""),
    "maker_limits_are_amounts": lambda: limits(loss_max_micros=0),
    "one_set_of_maker_limits_is_in_force": lambda: twice(limits),
    "maker_stop_is_of_a_known_rule": lambda: stop(rule="whim"),
    "maker_quote_names_its_trader": lambda: m.MakerQuote.objects.create(
        demand=first(m.Demand), limits=limits(), placed_by="", placed_at=clock.now()) and None,
    "conflict_says_who_and_what": lambda: m.Conflict.objects.create(
        person="ann", about="", what="owns shares", recorded_by="ben", at=clock.now()) and None,
    "there_is_one_demo_story": lambda: again(first(m.DemoRun), id=2),
}  # fmt: skip

for _more in (
    broken_backups, broken_compliance, broken_delivery, broken_keys, broken_proofs, broken_seats, broken_supply,
):  # fmt: skip
    CONSTRAINTS |= _more.CONSTRAINTS
RULES: dict[str, Callable[[], None]] = {
    **broken_backups.RULES, **broken_compliance.RULES, **broken_delivery.RULES, **broken_keys.RULES,
    **broken_proofs.RULES, **broken_seats.RULES, **broken_supply.RULES,
    "settlement_line_goes_with_a_refused_call": lambda: (m.SettlementLine.objects.all()[:1].get().delete(), None)[1],
    "party_is_not_its_own_owner": lambda: circle("alder", "birch", "cedar"),
    "window_starts_by_collecting": lambda: again(first(m.Window), number=99, name="born old"),
    "window_skips_no_state": lambda: m.Window.objects.filter(pk=fresh_window().pk).update(state="CLEARED") and None,
    "bid_only_while_bidding": lambda: again(first(m.Bid), reference="early bird", accepted_rank=99,
                                            window=fresh_window()),
    "bid_lies_under_seal_before_close": lambda: bid_in_the_open(),
    "seal_is_written_once": lambda: owned(lambda: change(m.BidSeal, body=b"another")),
    "share_stays_what_was_dealt": lambda: owned(lambda: change(m.WindowShare, number=3)),
    "share_is_the_one_dealt": lambda: change(m.WindowShare, released=b"share", released_at=clock.now()),
    "share_is_released_after_close": lambda: early_share(),
    "award_is_between_two_owners": lambda: (
        change(m.Party, {"slug": "harbour"}, parent=world.party("birch")), award("climate", "harbour"))[1],
    "maker_has_limits_of_two_people": lambda: quote(),
    "maker_stays_stopped": lambda: (stop(), quote())[1],
    "maker_keeps_its_products": lambda: (limits(resource_classes=["A100"]), quote())[1],
    "maker_keeps_its_spread": lambda: (limits(spread_max_ppm=0), quote())[1],
    "maker_keeps_its_notional": lambda: (limits(notional_max_micros=1), quote())[1],
    "maker_keeps_its_inventory": lambda: (limits(inventory_max_unit_hours=4), quote())[1],
    "maker_keeps_its_loss": lambda: (limits(loss_max_micros=1, approved_at=world.day(0)), lose(), quote())[2],
    "maker_limits_stay_as_proposed": lambda: (
        limits(), owned(lambda: change(m.MakerLimits, loss_max_micros=10**12)))[1],
    "demand_is_frozen_after_collecting": lambda: change(m.Demand, price_limit_micros=100),
    "award_stays_inside_one_window": lambda: award("climate-0", "harbour"),
    "award_needs_funded_demand": lambda: award("hope", "harbour"),
    "award_is_of_an_accepted_class": lambda: award("bargain", "harbour"),
    "award_keeps_residency": lambda: award("climate", "prairie"),
    "award_keeps_legal_control": lambda: award("sovereign", "prairie"),
    "award_keeps_the_tier": lambda: award("genome", "harbour"),
    "award_keeps_the_latency_bound": lambda: award("imaging", "harbour"),
    "award_lies_inside_both_lines": lambda: award("imaging", "basalt", start_slot=0),
    "award_is_no_larger_than_its_lines": lambda: award("climate", "harbour", units=7),
    "award_takes_the_whole_block": lambda: whole(kind="block"),
    "award_keeps_the_demands_minimum": lambda: whole(quantity_units=4, minimum_units=3),
    "award_stays_in_one_site": lambda: whole("granite", is_one_site=True),
    "award_is_of_one_alternative": lambda: whole(choice="either"),
    "award_keeps_the_bids_minimum": lambda: whole_bid(quantity_units=16, minimum_units=16),
    "statement_only_while_collecting": lambda: stated(first(m.Demand, window__name=world.MAIN)) and None,
    "difference_needs_a_counterfactual": lambda: differ({"quote_micros": None}),
    "difference_is_of_its_own_demand": lambda: differ({"demand": fresh_demand()}),
    "difference_is_of_a_settled_lease": lambda: differ(settled=False),
    "difference_counts_what_was_delivered": lambda: differ(quoted_micros=3_000_001, saved_micros=1_000_001),
    "standing_starts_registered": born_proven,
    "standing_skips_no_state": lambda: change(m.Standing, {"state": "REGISTERED"}, state="PROVEN"),
    "standing_moves_with_its_reason": move_without_a_reason,
    "standing_change_names_actor_and_evidence": lambda: again(first(m.StandingChange), actor=""),
    "unbonding_class_has_no_open_lease": leave_with_an_open_lease,
    "probation_bid_lasts_a_day": lambda: bid_on_probation(start_slot=0, end_slot=25, quantity_units=1),
    "probation_bid_is_a_tenth": lambda: bid_on_probation(quantity_units=9),
    "award_of_probation_is_low_tier": award_a_high_tier_to_probation,
    "lease_is_armed_by_proof_alone": lambda: change(m.Lease, {"is_armed": False}, is_armed=True),
    "slash_case_starts_open": lambda: again(first(m.SlashCase), intent_key=None, outcome="lapsed"),
    "slash_case_follows_its_path": lambda: change(m.SlashCase, {"outcome": "warned"}, outcome="disputed"),
    "forfeit_only_of_what_was_signed_unproven": lambda: again(
        first(m.Forfeit), lease=world.lease("genome"), evidence_hash=bytes(32), intent_key="another"),
    "slash_only_what_was_signed_while_proven": lambda: again(
        first(m.SlashCase, outcome="held_back"), outcome="requested", intent_key=None),
    "admission_starts_in_the_waitlist": lambda: admission(state="ADMITTED", decided_at=clock.now()),
    "decided_admission_stays": lambda: change(m.Admission, {"state": "ADMITTED"}, unit_hours=1),
    "admission_is_covered_by_funded_demand": lambda: (
        admission(), m.Admission.objects.filter(state="WAITLIST").update(state="ADMITTED", decided_at=clock.now()),
        None)[2],
    "bid_only_of_an_admitted_class": lambda: bid_into(fresh_window()) and None,
    "bid_stays_within_its_admission": lambda: change(m.Bid, {"state": "awarded"}, quantity_units=10**6),
    "bilateral_bid_is_its_providers": lambda: bid_into(between_two()) and None,
    "bilateral_demand_is_its_buyers": lambda: again(
        world.demand("hope"), party=world.party("alder"), window=between_two(), reference="in", accepted_rank=99),
    "pair_is_of_a_bilateral_window": lambda: (m.Pair.objects.create(
        window=fresh_window(), buyer=world.party("elm"), provider=world.party("harbour")), None)[1],
    "gate_rule_is_set_while_collecting": lambda: gate_rule(world.window()),
    "prosumer_waits_for_its_phase": lambda: again(world.party("harbour"), slug="tower", kind="prosumer",
                                                  chain_address=None),
    "funding_waits_for_its_phase": switched_off("demand_funding", fund_fresh),
    "standing_demand_waits_for_its_phase": switched_off("standing_demand", lambda: standing_demand() and None),
    "bilateral_window_waits_for_its_phase": switched_off("bilateral_windows", lambda: between_two() and None),
    "bidding_waits_for_its_phase": switched_off("market_bids", lambda: (
        m.Window.objects.filter(pk=fresh_window().pk).update(state="BIDDING"), None)[1]),
    "bid_waits_for_its_phase": switched_off("market_bids", lambda: again(first(m.Bid), reference="new")),
    "clearing_waits_for_its_phase": switched_off("public_market", lambda: again(first(m.Clearing))),
    "lock_waits_for_its_phase": switched_off("escrow_locks", lambda: again(first(m.Lease))),
    "slash_waits_for_its_phase": switched_off("slashing", lambda: again(
        first(m.SlashCase, outcome="warned"), outcome="requested", intent_key="again")),
    "reading_earns_no_more_than_the_ceiling": above_the_ceiling,
    "invoice_charges_what_is_settled": lambda: uninvoiced(unsettled("genome", charged)),
    "slash_case_follows_its_settlement": lambda: unsettled(
        first(m.SlashCase).verdict.lease.demand.reference, lambda: again(first(m.SlashCase)))(),
    "last_pack_follows_its_settlement": lambda: unsettled("genome", lambda: again(
        first(m.LeasePack, lease=world.lease("genome"), stage="end"), version=9))(),
    "invoice_line_is_an_award_of_its_buyer": lambda: uninvoiced(lambda: charged(amount_micros=1)),
    "invoice_line_takes_off_what_was_settled": lambda: uninvoiced(lambda: taken_off(amount_micros=-1)),
    "invoice_is_the_sum_of_its_lines": lambda: uninvoiced(charged),
    "tax_rule_starts_as_a_proposal": lambda: tax_rule(approved_by="ben", approved_at=clock.now()) and None,
    "tax_rule_stays_as_proposed": lambda: change(m.TaxRule, {"pk": tax_rule().pk}, approved_by="cleo"),
    "tax_line_is_the_rule_in_force": lambda: uninvoiced(lambda: taxed(is_of_an_order=False, amount_micros=0)),
    "tax_is_its_share_of_the_lines": lambda: uninvoiced(lambda: taxed(is_of_an_order=True, amount_micros=1)),
    "buyer_in_default_has_no_new_demand": in_default,
    "legs_of_an_order_are_one_buyers": lambda: (leg(), leg(demand=world.demand("hope"), no=2), None)[2],
    "award_keeps_the_cap_on_one_provider": two_legs_of_one_owner,
    "demand_names_its_own_order": lambda: change_demand(funding_line=line(party=world.party("birch"))),
    "funding_line_starts_pending": lambda: line(state="REFUSED", decided_by="b", decided_at=clock.now()) and None,
    "funding_line_is_decided_once": lambda: (
        approved_line(), m.FundingLine.objects.update(limit_micros=1), None)[2],
    "funding_line_is_the_buyers_and_approved": lambda: fund_by(line()),
    "funding_line_is_still_valid": lambda: fund_by(approved_line(valid_until=world.day(1))),
    "funding_line_covers_its_demands": lambda: fund_by(approved_line(), quantity_units=2),
    "standing_entry_is_the_demand_it_names": lambda: entry(limit_micros=900_000) and None,
    "renewal_is_capped_by_what_was_paid": lambda: entry(paid_micros=900_000) and None,
    "renewed_demand_stays_under_its_cap": renewed_above_its_cap,
    "complete_evidence_meets_every_condition": lambda: evidence(have=0) and None,
    "sign_off_is_by_a_foundation_seat": lambda: (m.PhaseSignOff.objects.create(
        evidence=evidence(), person="a@b.example", at=clock.now()), None)[1],
    "phase_starts_closed": lambda: again(first(m.Phase, no=1), no=2),
    "open_phase_stays": lambda: phase_opens(1),
    "phase_skips_no_phase": in_phase_one(lambda: phase_opens(3)),
    "phase_opens_on_complete_evidence": in_phase_one(phase_opens),
    "frozen_phase_stays_closed": in_phase_one(sign_and_freeze),
    "phase_needs_two_sign_offs": in_phase_one(lambda: (sign_off("a@b.example"), phase_opens(), None)[2]),
    "signal_is_closed_once_and_else_stays": lambda: m.Signal.objects.filter(pk=signal().pk).update(title="x") and None,
    "flag_keeps_its_phase": lambda: change(m.Flag, {"name": "prosumer_parties"}, opens_in_phase=1),
    "flag_is_on_only_in_its_phase": lambda: change(m.Flag, {"name": "prosumer_parties"}, is_on=True),
}  # fmt: skip


def _truth(table: str, statement: str) -> Callable[[], None]:
    def rewrite() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement.format(table=f"marketplace_{table}"))

    return rewrite


KEYS = {
    "egresspin": "demand_id", "counselsignoff": "demand_id",
    "leasedifference": "lease_id", "demandleg": "demand_id", "auditline": "no", "backup": "award_id",
    "evidencereview": "evidence_id", "evidenceday": "day",
    "evidenceend": "evidence_id", "agreementend": "agreement_id", "zonereport": "change_id", "pair": "window_id",
    "undertakingreview": "undertaking_id", "undertakingend": "undertaking_id",
    "challengetranscript": "transcript_hash", "makerstop": "limits_id", "makerquote": "demand_id",
    "suspectflow": "lease_id",
}  # fmt: skip
REWRITES = {
    f"{table} by {name}": (table, _truth(table, statement))
    for table in APPEND_ONLY
    for name, statement in {
        "UPDATE": "UPDATE {table} SET {column} = {column}", "DELETE": "DELETE FROM {table}",
        "TRUNCATE": "TRUNCATE {table} CASCADE",
    }.items()
    for statement in [statement.replace("{column}", KEYS.get(table, "id"))]
    if (table, name) != ("settlementline", "DELETE")  # it may go with a refused call: see RULES
}  # fmt: skip


# --- the tests -------------------------------------------------------------------------------------------------------
def declared() -> set[str]:
    tables = apps.get_app_config("marketplace").get_models()
    return {constraint.name for table in tables for constraint in table._meta.constraints}


def rules_of_the_triggers() -> set[str]:
    """Every name that a function of the database may raise, from whatever a migration calls its SQL."""
    texts = "".join(text for one in MIGRATIONS for text in vars(one).values() if isinstance(text, str))
    return set(re.findall(r"(?:CONSTRAINT = |THEN\s+|broken := )'([a-z_]+)'", texts)) - GONE


def refused_by(attempt: Callable[[], None]) -> str:
    """The name under which the database refuses, or "" when it accepts."""
    try:
        with transaction.atomic():
            attempt()
    except IntegrityError as refusal:
        return str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
    return ""


def test_every_declared_constraint_has_a_way_to_break_it() -> None:
    assert declared() == set(CONSTRAINTS)


def test_every_rule_of_the_triggers_has_a_way_to_break_it() -> None:
    assert rules_of_the_triggers() == set(RULES)
    assert len(RULES) >= 19  # the pattern still finds them


@pytest.mark.stage("closed")
@pytest.mark.parametrize("name", [*CONSTRAINTS, *RULES])
def test_the_database_refuses_each_break_by_its_name(name: str) -> None:
    assert refused_by((CONSTRAINTS | RULES)[name]) == name


@pytest.mark.stage("closed")
@pytest.mark.parametrize("raw", [False, True], ids=["by the models", "by SQL"])
@pytest.mark.parametrize(("name", "attempt"), broken_proofs.MORE_ENTRY)
def test_nobody_becomes_proven_without_every_figure_of_its_entry(
    name: str, attempt: Callable[..., None], raw: bool
) -> None:
    assert refused_by(lambda: attempt(raw=raw)) == name


@pytest.mark.stage("closed")
@pytest.mark.parametrize(("name", "attempt"), broken_keys.MORE)
def test_a_units_prover_keeps_its_key_to_itself_and_is_retired_for_a_reason(
    name: str, attempt: Callable[[], None]
) -> None:
    assert refused_by(attempt) == name


@pytest.mark.stage("closed")
@pytest.mark.parametrize("papers", broken_compliance.MORE_PAPERS)
def test_an_award_rests_on_papers_of_these_two_for_this_and_through_the_whole_window(papers: str) -> None:
    rule, attempt = broken_compliance.MORE_PAPERS[papers]

    assert refused_by(attempt) == rule


@pytest.mark.stage("closed")
@pytest.mark.parametrize("how", REWRITES)
def test_what_is_written_once_is_never_rewritten(how: str) -> None:
    table, rewrite = REWRITES[how]

    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        rewrite()
    with as_owner():
        assert refused_by(rewrite) == f"marketplace_{table}_is_append_only"


@pytest.mark.stage("closed")
def test_a_window_still_walks_its_path_and_a_demand_still_changes_in_time() -> None:
    window = fresh_window()

    assert refused_by(lambda: change_demand(quantity_units=2)) == ""
    for state in ("BIDDING", "CLEARING", "CLEARED", "DELIVERING", "SETTLED"):
        assert m.Window.objects.filter(pk=window.pk).update(state=state) == 1


@pytest.mark.django_db
def test_the_models_and_the_migrations_say_the_same() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.slow  # every migration of the market, backwards and forwards
def test_the_walls_come_down_and_go_up_again(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    head, walls = MigrationExecutor(connection).loader.graph.leaf_nodes("marketplace"), own_triggers()
    with as_owner():
        assert refused_by(forget_standing) == "marketplace_standingchange_is_append_only"

        MigrationExecutor(connection).migrate([("marketplace", "0001_initial")])
        assert own_triggers() == set()
        assert refused_by(forget_standing) == ""

        MigrationExecutor(connection).migrate(head)
    assert own_triggers() == walls
    assert len(walls) > len(APPEND_ONLY)
    assert refused_by(RULES["window_skips_no_state"]) == "window_skips_no_state"


def forget_standing() -> None:
    m.StandingChange.objects.all().delete()


def own_triggers() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE NOT tgisinternal AND c.relname LIKE 'marketplace\\_%'"
        )
        return {row[0] for row in cursor.fetchall()}
