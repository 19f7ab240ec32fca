"""One deliberate break for every rule that the database keeps about changes of machines, egress money and vouchers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F

from ledger.ids import uuid7
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.parties.services import make_seat
from marketplace.supply.changes import edit_node_class, retire
from tests.architecture.broken_compliance import HASH, Break, breaking, later, now, seat, twice
from tests.journey import world
from tests.owner import behind_the_triggers, unseen


def free(code: str = "sprout") -> m.NodeClass:
    """Machines on which no bid stands."""
    return world.node_class(code)


def change(**columns: Any) -> dict[str, Any]:
    return {
        "site": free().site, "no": 1, "before": {"city": "A"}, "after": {"city": "B"}, "actor": "a", "reason": "r",
        "at": now(),
    } | columns  # fmt: skip


def of_class(**columns: Any) -> dict[str, Any]:
    return change(site=None, node_class=free()) | columns


def sites(code: str = "sprout") -> Any:
    return m.Site.objects.filter(party__slug=code)


def classes(code: str = "sprout") -> Any:
    return m.NodeClass.objects.filter(party__slug=code)


def on_record(thing: Any, before: dict[str, Any], after: dict[str, Any], **columns: Any) -> m.SupplyChange:
    """A line as the service would write it, for what is then written without the rest."""
    key = {"site": thing} if isinstance(thing, m.Site) else {"node_class": thing}
    return m.SupplyChange.objects.create(**{
        "id": world.party("alder").pk, "no": 1, "before": before, "after": after, "actor": "a", "reason": "r",
        "at": now(), **key} | columns)  # fmt: skip


def move(code: str, rest: bool = True, **columns: Any) -> None:
    site = free(code).site
    row = on_record(site, {"country": site.country}, {"country": "US"})
    if rest:
        site.latencies.all().delete()
    sites(code).update(country="US", **{"moved_at": row.at} | columns)


def move_while_bids_stand() -> None:
    unseen(m.Window.objects.filter(name=world.MAIN), state="DELIVERING")
    move("harbour")


def shrink_while_bids_stand() -> None:
    unseen(m.Window.objects.filter(name=world.MAIN), state="DELIVERING")
    row = free("harbour")
    on_record(row, {"units": row.units}, {"units": 1})
    classes("harbour").update(units=1)


def change_control_unseen() -> None:
    site = free().site
    on_record(site, {"keys_country": site.keys_country}, {"keys_country": "US"})
    sites().update(keys_country="US")


def move_with_its_round_trips() -> None:
    move("sprout", rest=False)


def move_with_its_proof() -> None:
    unseen(m.Window.objects.all(), state="SETTLED")
    move("harbour")


def grow_with_its_proof() -> None:
    unseen(m.Window.objects.all(), state="SETTLED")
    row = free("harbour")
    on_record(row, {"units": row.units}, {"units": row.units + 1})
    classes("harbour").update(units=F("units") + 1)


def retire_a_site_in_service() -> None:
    on_record(free().site, {"retired_at": None}, {"retired_at": now().isoformat()})
    sites().update(retired_at=now())


def come_back_before_the_site() -> None:
    facts = {"party": world.party("sprout"), "reason": "r", "now": now()}
    retire(thing=free(), **facts)
    retire(thing=free().site, **facts)
    on_record(free(), {"retired_at": now().isoformat()}, {"retired_at": None}, no=2)
    classes().update(retired_at=None)


def bid_with_what_is_retired() -> None:
    row = m.Bid.objects.filter(party__slug="harbour", window__name=world.MAIN).get()
    unseen(classes("harbour"), retired_at=now())
    unseen(m.Window.objects.filter(pk=row.window_id), state="BIDDING", bidding_closes_at=F("starts_at"))
    m.Bid.objects.create(
        id=world.party("alder").pk, window=row.window, node_class=row.node_class, party=row.party, reference="late",
        accepted_rank=99, placed_at=row.placed_at,
    )  # fmt: skip


def undo_twice() -> None:
    row = edit_node_class(party=world.party("sprout"), node_class=free(), reason="r", now=now(), claimed_name="x")
    m.SupplyChange.objects.create(id=world.party("alder").pk, **of_class(no=2, undoes=row, cause="measured"))


CONSTRAINTS: dict[str, Break] = {
    "supply_change_is_of_one_thing": breaking(m.SupplyChange, change, node_class=free),
    "supply_change_says_who_and_why": breaking(m.SupplyChange, change, reason=""),
    "supply_change_changes_something": breaking(m.SupplyChange, change, after={"city": "A"}),
    "supply_change_cause_is_known": undo_twice,
    "changes_of_a_site_are_numbered_once": twice(m.SupplyChange, change),
    "changes_of_a_node_class_are_numbered_once": twice(m.SupplyChange, of_class),
}
RULES: dict[str, Break] = {
    "a_site_keeps_its_party_and_code": lambda: sites().update(code="other") and None,
    "a_site_changes_on_record": lambda: sites().update(city="Elsewhere") and None,
    "a_site_stays_while_bids_stand": move_while_bids_stand,
    "a_site_retires_after_its_classes": retire_a_site_in_service,
    "a_moved_site_shows_itself_anew": lambda: move("sprout", moved_at=now() - timedelta(days=1)),
    "changed_control_is_shown_anew": change_control_unseen,
    "a_moved_site_has_no_round_trips": move_with_its_round_trips,
    "a_proof_does_not_move_with_its_site": move_with_its_proof,
    "a_node_class_keeps_its_site_and_number": lambda: classes().update(chain_class=999) and None,
    "a_node_class_changes_on_record": lambda: classes().update(units=F("units") + 1) and None,
    "a_node_class_stays_while_bids_stand": shrink_while_bids_stand,
    "a_proof_ends_with_its_machines": grow_with_its_proof,
    "a_node_class_comes_back_after_its_site": come_back_before_the_site,
    "bid_is_of_machines_in_service": bid_with_what_is_retired,
}


# --- egress ---------------------------------------------------------------------------------------------------------
def pinned_lease(limit_bytes: int = 0) -> m.Lease:
    lease = world.lease("genome")
    with behind_the_triggers():
        m.EgressPin.objects.get_or_create(demand=lease.demand, defaults={"limit_bytes": limit_bytes, "at": now()})
    return lease


def egress_credit(**columns: Any) -> dict[str, Any]:
    lease = pinned_lease()
    return {"lease": lease, "kind": "egress", "period": lease.start_slot, "step_bps": 0, "amount_micros": 1,
            "down_minutes": 0, "evidence_hash": b"x" * 32, "broken_at": now(), "made_at": now()} | columns  # fmt: skip


def report_after_the_verdict() -> None:
    lease = pinned_lease()
    m.EgressReading.objects.create(lease=lease, slot=lease.start_slot, egress_bytes=0, report=b"r", signature=b"s",
                                   taken_at=now())  # fmt: skip


def more_egress_than_credit() -> None:
    with behind_the_triggers():
        m.Credit.objects.filter(pk=m.Credit.objects.all()[:1].get().pk).update(egress_micros=10**15)


CONSTRAINTS |= {
    "egress_limit_is_not_negative": lambda: pinned_lease(-1) and None,
    "egress_is_part_of_its_credit": more_egress_than_credit,
}
RULES |= {
    "egress_credit_rests_on_its_meter": breaking(m.EarlyCredit, egress_credit),
    "egress_is_told_before_its_verdict": report_after_the_verdict,
}


# --- vouchers -------------------------------------------------------------------------------------------------------
def programme(**columns: Any) -> m.GrantProgramme:
    standing = m.GrantProgramme.objects.filter(code="eurohpc").first()
    terms = {"code": "eurohpc", "name": "EuroHPC", "funder": "EU", "budget_micros": 100, "voucher_max_micros": 40,
             "party_max_micros": 60, "proposed_by": "ann", "proposed_at": now(), "approved_by": "ben",
             "approved_at": now()}  # fmt: skip
    if standing and not columns:
        return standing
    return m.GrantProgramme.objects.create(id=uuid7(now()), **terms | columns)


def voucher(**columns: Any) -> m.Voucher:
    terms = {"programme": programme(), "amount_micros": 30, "valid_until": later(), "proposed_by": "ann",
             "proposed_at": now()}  # fmt: skip
    return m.Voucher.objects.create(id=uuid7(now()), **terms | columns)


def issued(row: m.Voucher | None = None, **columns: Any) -> m.Voucher:
    row = row or voucher()
    terms = {"state": "ISSUED", "approved_by": "ben", "approved_at": now(), "code_sha256": row.pk.bytes * 2}
    for name, value in (terms | columns).items():
        setattr(row, name, value)
    row.save()
    return row


def redeemed(row: m.Voucher, slug: str = "alder", **columns: Any) -> m.Voucher:
    party = world.party(slug)
    line = m.FundingLine.objects.create(
        id=uuid7(now()), party=party, kind="grant", number=str(row.pk)[:60], limit_micros=row.amount_micros,
        valid_until=row.valid_until, asked_by="ann", asked_at=now(),
    )  # fmt: skip
    for name, value in ({"state": "REDEEMED", "party": party, "line": line, "redeemed_at": now()} | columns).items():
        setattr(row, name, value)
    row.save()
    return row


def redeem_too_much() -> None:
    for _ in range(3):
        redeemed(issued(voucher()))


CONSTRAINTS |= {
    "programme_limits_nest": lambda: programme(voucher_max_micros=61) and None,
    "programme_is_approved_by_another": lambda: programme(approved_by="ann") and None,
    "voucher_state_is_known": lambda: _quietly(lambda: voucher(
        state="LOST", approved_by="ben", approved_at=now(), code_sha256=b"x" * 32)),
    "voucher_has_an_amount": lambda: _quietly(lambda: voucher(amount_micros=0)),
    "voucher_is_issued_by_another": lambda: issued(approved_by="ann") and None,
    "redeemed_voucher_has_its_buyer_and_line": lambda: _quietly(lambda: redeemed(issued(), party=None)),
    "closed_voucher_says_when": lambda: _quietly(lambda: voucher(closed_at=now())),
}
RULES |= {
    "programme_stays_as_it_was_proposed": lambda: programme() and m.GrantProgramme.objects.update(
        budget_micros=10**6) and None,
    "voucher_starts_proposed": lambda: voucher(state="ISSUED", approved_by="ben", approved_at=now(),
                                               code_sha256=b"x" * 32) and None,
    "voucher_stays_within_its_programme": lambda: [voucher() for _ in range(4)] and None,
    "voucher_skips_no_state": lambda: redeemed(voucher()) and None,
    "voucher_stays_as_it_was_issued": lambda: issued(issued(), code_sha256=b"y" * 32) and None,
    "voucher_is_redeemed_in_time_by_whom_it_is_for": lambda: redeemed(
        issued(voucher(for_party=world.party("birch")))) and None,
    "voucher_leaves_its_buyer_within_its_most": redeem_too_much,
}  # fmt: skip


def _quietly(make: Any) -> None:
    with behind_the_triggers():
        make()


# --- weeks, first leases, undertakings ------------------------------------------------------------------------------
def week(**columns: Any) -> m.CalendarWeek:
    terms = {"node_class": free(), "source": "slurm", "spans": [[0, 5, 1]], "from_at": now(), "until_at": later(),
             "seat": seat("sprout"), "made_at": now()}  # fmt: skip
    return m.CalendarWeek.objects.create(id=uuid7(now()), **terms | columns)


def rule_of_units(**columns: Any) -> dict[str, Any]:
    return {"node_class": free(), "kind": "closed", "units": 1, "from_at": now(), "until_at": later(),
            "seat": seat("sprout"), "made_at": now()} | columns  # fmt: skip


def entry_rule(**columns: Any) -> dict[str, Any]:
    return {"tier": 1, "first_lease_cap_micros": 10, "undertaking_max_micros": 5, "person": "ann", "reason": "r",
            "at": now()} | columns  # fmt: skip


def a_university(slug: str = "sprout") -> m.Seat:
    unseen(m.Party.objects.filter(slug=slug), kind="university")
    return seat(slug)


def undertaking(**columns: Any) -> m.Undertaking:
    terms = {"seat": a_university(), "node_class": free(), "amount_micros": 5, "signatory": "rector",
             "file_name": "u.pdf", "sha256": HASH, "body": b"x", "valid_from": now(), "valid_until": later(),
             "submitted_at": now()}  # fmt: skip
    return m.Undertaking.objects.create(id=uuid7(now()), **terms | columns)


def reviewed(**columns: Any) -> None:
    row = undertaking()
    terms = {"undertaking": row, "seat": reviewer_seat(now()), "is_accepted": True, "reason": "r", "at": now()}
    m.UndertakingReview.objects.create(**terms | columns)


def review_as_an_auditor() -> None:
    auditor = make_seat(party=reviewer_seat(now()).party, email="audit@grove.example", password=None, role="auditor",
                        now=now())  # fmt: skip
    reviewed(seat=auditor)


def lease_beyond_the_cap() -> None:
    lease = m.Lease.objects.filter(window__name=world.MAIN, provider__slug="basalt").get()
    m.EntryRule.objects.create(**entry_rule(tier=lease.node_class.tier))
    unseen(m.Demand.objects.filter(reference="hope"), state="awarded")
    lease.pk, lease.demand, lease.is_armed = uuid7(now()), world.demand("hope"), False
    unseen(m.Window.objects.filter(pk=lease.window_id), state="CLEARED")
    lease.save(force_insert=True)


CONSTRAINTS |= {
    "calendar_week_has_time": lambda: week(until_at=now()) and None,
    "one_calendar_week_of_a_class": lambda: (week(), week(), None)[2],
    "calendar_units_are_of_open_hours": breaking(m.CalendarRule, rule_of_units),
    "an_undertaking_is_at_most_the_first_lease": breaking(m.EntryRule, entry_rule, undertaking_max_micros=11),
    "entry_rule_says_who_and_why": breaking(m.EntryRule, entry_rule, reason=""),
    "undertaking_has_an_amount_and_time": lambda: undertaking(amount_micros=0) and None,
    "undertaking_review_has_a_reason": lambda: reviewed(reason=""),
    "undertaking_end_has_a_reason": lambda: m.UndertakingEnd.objects.create(
        undertaking=undertaking(), seat=seat("sprout"), reason="", at=now()) and None,
}
RULES |= {
    "calendar_week_is_only_undone": lambda: week() and m.CalendarWeek.objects.update(spans=[]) and None,
    "first_lease_stays_below_its_cap": lease_beyond_the_cap,
    "undertaking_is_a_universitys_own": lambda: undertaking(seat=seat("sprout"), node_class=free("harbour")) and None,
    "undertaking_hash_is_of_its_body": lambda: undertaking(body=b"y") and None,
    "undertaking_stays_within_its_rule": lambda: undertaking(amount_micros=10**14) and None,
    "undertaking_is_reviewed_by_a_second_person": lambda: reviewed(seat=a_university()),
    "undertaking_is_reviewed_by_who_may": review_as_an_auditor,
}


def curve_that_rises() -> None:
    for no, (reference, price) in enumerate((("climate", 100), ("imaging", 200)), start=1):
        unseen(m.Demand.objects.filter(reference=reference), price_limit_micros=price)
        m.DemandLeg.objects.create(demand=world.demand(reference), order=world.party("birch").pk, role="step", no=no,
                                   of=2)  # fmt: skip


def step_that_passes_its_neighbour() -> None:
    for no, (reference, price) in enumerate((("climate", 200), ("imaging", 100)), start=1):
        unseen(m.Demand.objects.filter(reference=reference), price_limit_micros=price)
        m.DemandLeg.objects.create(demand=world.demand(reference), order=world.party("birch").pk, role="step", no=no,
                                   of=2)  # fmt: skip
    m.Demand.objects.filter(reference="imaging").update(price_limit_micros=200)


RULES["a_curve_falls_from_step_to_step"] = curve_that_rises
RULES["a_step_stays_between_its_neighbours"] = step_that_passes_its_neighbour
