"""One deliberate break for every rule that the database keeps about compliance, spending and capacity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.owner import as_owner, behind_the_triggers

Break = Callable[[], None]
HASH = hashlib.sha256(b"x").digest()


def now() -> datetime:
    return clock.now()


def later(days: int = 30) -> datetime:
    return now() + timedelta(days=days)


def seat(slug: str, role: str = "owner") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=now())


def made(model: type[models.Model], **columns: Any) -> Any:
    """A row written directly, with a key where the table does not make its own."""
    key = model._meta.pk
    if isinstance(key, models.UUIDField) and key.name not in columns and f"{key.name}_id" not in columns:
        columns["id"] = uuid7(now())
    return model._default_manager.create(**columns)


def quietly(make: Callable[[], Any]) -> None:
    make()


def unguarded(make: Callable[[], Any]) -> None:
    with behind_the_triggers():
        make()


def breaking(model: type[models.Model], columns: Callable[[], dict[str, Any]], **wrong: Any) -> Break:
    """Write a row that would be good with some columns wrong; a callable is asked for its value then."""

    def write() -> None:
        made(model, **columns() | {name: value() if callable(value) else value for name, value in wrong.items()})

    return write


def twice(model: type[models.Model], columns: Callable[[], dict[str, Any]]) -> Break:
    def write() -> None:
        made(model, **columns())
        made(model, **columns())

    return write


def judged_now(name: str, make: Break) -> Break:
    """A rule that is looked at when all rows stand is looked at at once."""

    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET CONSTRAINTS {name} IMMEDIATE")
        make()

    return write


# --- good rows --------------------------------------------------------------------------------------------------------
def paper() -> dict[str, Any]:
    return {"file_name": "x.txt", "body": b"x", "sha256": HASH, "valid_from": now(), "valid_until": later()}


def evidence() -> dict[str, Any]:
    return paper() | {"party": world.party("harbour"), "control_id": "pci-scope", "issuer": "i",
                      "seat": seat("harbour", "compliance"), "submitted_at": now()}  # fmt: skip


def review() -> dict[str, Any]:
    return {"evidence": made(m.Evidence, **evidence()), "seat": reviewer_seat(now()), "is_accepted": True,
            "reason": "r", "at": now()}  # fmt: skip


def agreement() -> dict[str, Any]:
    return paper() | {"control_id": "baa", "buyer": world.party("alder"), "provider": world.party("granite"),
                      "purposes": ["research"], "seat": seat("alder"), "proposed_at": now()}  # fmt: skip


def signature() -> dict[str, Any]:
    standing = m.Agreement.objects.first() or made(m.Agreement, **agreement())
    return {"agreement": standing, "party": world.party("alder"), "seat": seat("alder"), "title": "t", "at": now()}


def incident() -> dict[str, Any]:
    at = now()
    return {"title": "t", "party": world.party("harbour"), "discovered_at": at, "opened_at": at,
            "notify_by": at + timedelta(hours=72), "opened_by": "ann"}  # fmt: skip



def zone_change() -> dict[str, Any]:
    return {"zone_id": "EU", "version": 2, "valid_from": later().date(), "source": "s", "person": "ann", "at": now()}


def budget() -> dict[str, Any]:
    return {"party": world.party("alder"), "name": "b", "limit_micros": 1, "action": "block", "from_at": now(),
            "until_at": later()}  # fmt: skip


def pilot() -> dict[str, Any]:
    return {"party": world.party("alder"), "name": "p", "cap_micros": 10**12, "ends_at": later(300),
            "opened_at": now()}  # fmt: skip


def spending_rule(**changes: Any) -> m.SpendingRule:
    rule = {"party": world.party("alder"), "threshold_micros": 0}
    return made(m.SpendingRule, **rule | changes)


def carve_out() -> dict[str, Any]:
    window = world.window()
    return {"node_class": world.node_class("harbour"), "units": 16, "from_at": window.starts_at,
            "until_at": window.ends_at, "purpose": "p", "seat": seat("harbour"), "made_at": now()}  # fmt: skip


def funding_tag(policy: str = "forbidden") -> dict[str, Any]:
    source, _ = m.FundingSource.objects.get_or_create(
        code=f"grant-{policy}", defaults={"name": "g", "policy": policy, "source": "s"}
    )
    times = {name: value for name, value in carve_out().items() if name != "purpose"}
    return times | {"source": source}


def calendar_rule() -> dict[str, Any]:
    return {name: value for name, value in carve_out().items() if name not in ("purpose", "units")} | {"kind": "open"}


def split_share() -> dict[str, Any]:
    split = m.RevenueSplit.objects.first() or made(m.RevenueSplit, **revenue_split())
    return {"split": split, "member": world.party("harbour"), "share_ppm": 10**6}


def revenue_split() -> dict[str, Any]:
    return {"party": world.party("harbour"), "from_at": later(), "seat": seat("harbour"), "made_at": now()}


def member_share() -> dict[str, Any]:
    split = split_share()["split"]
    m.SplitShare.objects.get_or_create(split=split, member=world.party("harbour"), share_ppm=10**6)
    return {"reference": bytes(36), "lead": world.party("harbour"), "node_class": world.node_class("harbour"),
            "split": split, "member": world.party("harbour"), "paid_micros": 7, "amount_micros": 7, "made_at": now(),
            "final_at": now()}  # fmt: skip


def pack() -> dict[str, Any]:
    return {"lease": m.Lease.objects.exclude(state="refused").first(), "version": 9, "stage": "end", "body": b"x",
            "sha256": HASH, "made_at": now()}  # fmt: skip


def counsel_rule() -> dict[str, Any]:
    return {"party": world.party("birch"), "seat": seat("birch"), "from_at": now()}


def sign_off() -> dict[str, Any]:
    from tests.architecture.test_constraints import fresh_demand

    return {"demand": fresh_demand(), "seat": seat("alder", "counsel"), "is_approved": True, "reason": "r", "at": now()}


def signed_by_its_poster() -> None:
    row = sign_off()
    m.Demand.objects.filter(pk=row["demand"].pk).update(posted_by=row["seat"])
    made(m.CounselSignOff, **row)


def high_risk_without_a_pack() -> None:
    lease = m.Lease.objects.filter(demand__reference="climate").first()
    assert lease is not None
    with behind_the_triggers():
        m.LeasePack.objects.filter(lease=lease).delete()
        m.Lease.objects.filter(pk=lease.pk).update(state="locking")
        m.Demand.objects.filter(pk=lease.demand_id).update(required_controls=["ai-act-pack"])
    m.Lease.objects.filter(pk=lease.pk).update(state="locked")


def bid_of_the_foundation() -> None:
    from tests.architecture.test_constraints import bid_into, fresh_window

    m.Party.objects.filter(slug="granite").update(kind="foundation")
    bid_into(fresh_window())


def egress() -> dict[str, Any]:
    lease = m.Lease.objects.exclude(state="refused").first()
    assert lease is not None
    return {"lease": lease, "slot": lease.start_slot, "egress_bytes": 1, "report": b"r", "signature": b"s",
            "taken_at": now()}  # fmt: skip


def quote() -> dict[str, Any]:
    return {"resource_class_id": "H100", "provider": "p", "place": "edge", "country": "DE", "is_edge": True,
            "price_micros": 1, "source": "s", "quoted_on": now().date(), "entered_on": now().date(),
            "person": "ann"}  # fmt: skip


def report() -> dict[str, Any]:
    """A report whose deposit is held; every one of its hold's kind."""
    from ledger.ids import uuid_from
    from ledger.services import reserve_hold

    buyer, id = world.party("elm"), uuid7(now())
    with behind_the_triggers() as cursor:
        cursor.execute("UPDATE ledger_account SET credits_posted = credits_posted + 50000000 "
                       "WHERE code = 'buyer.available' AND party = %s", [buyer.pk])  # fmt: skip
    hold = uuid_from("report", id)
    reserve_hold(id=hold, party=buyer.pk, window=id, amount=50_000_000, timeout_at=later(), now=now())
    return {"id": id, "reporter": buyer, "about": world.party("harbour"), "kind": "other", "text": "t",
            "deposit_micros": 50_000_000, "reward_micros": 100_000_000, "hold_id": hold, "made_at": now()}  # fmt: skip


def report_then(**changes: Any) -> Break:
    def write() -> None:
        row = made(m.Report, **report())
        m.Report.objects.filter(pk=row.pk).update(**changes)

    return write


def report_rewritten_by_its_owner() -> None:
    row = made(m.Report, **report())
    with as_owner():
        m.Report.objects.filter(pk=row.pk).update(text="other")


def no_deposit() -> None:
    row = report()
    with behind_the_triggers():
        made(m.Report, **row | {"deposit_micros": 0})


TRIAGED = {"state": "triaged", "triaged_by": "ann"}
DECIDED = {"decided_by": "ben", "reason": "r", "outcome": "o"}


def decided_again() -> None:
    row = made(m.Report, **report())
    m.Report.objects.filter(pk=row.pk).update(state="rejected", decided_at=now(), **DECIDED)
    m.Report.objects.filter(pk=row.pk).update(outcome="another")


def upheld_with_its_deposit_held() -> None:
    row = made(m.Report, **report())
    m.Report.objects.filter(pk=row.pk).update(**TRIAGED)
    m.Report.objects.filter(pk=row.pk).update(state="upheld", decided_at=now(), **DECIDED)


def upheld_by_one() -> None:
    row = made(m.Report, **report())
    m.Report.objects.filter(pk=row.pk).update(**TRIAGED)
    with behind_the_triggers():
        m.Report.objects.filter(pk=row.pk).update(state="upheld", decided_at=now(), **DECIDED | {"decided_by": "ann"})


def lapse_notice() -> dict[str, Any]:
    admission = m.Admission.objects.filter(state="ADMITTED", node_class__party__slug="harbour").first()
    return {"admission": admission, "missed": 2, "at": now()}


def lapse(**changes: Any) -> None:
    """A lapse that no window and no notice calls for; each missing part is refused by its own name."""
    notice = made(m.LapseNotice, **lapse_notice())
    row = {"admission": notice.admission, "notice": notice, "windows": [], "at": now(),
           "unit_hours_before": notice.admission.unit_hours, "unit_hours_after": 0}  # fmt: skip
    made(m.Lapse, **row | changes)


def missed_by_all() -> None:
    """Let harbour in again in a month of two windows that nobody bid in; the notice lies between them."""
    base = world.day(400).replace(day=10)
    with behind_the_triggers():
        for number in range(2):
            window = world.window()
            demand = world.demand("climate")
            window.pk, window.number, window.name = uuid7(now()), 900 + number, f"missed {number}"
            window.starts_at = base + timedelta(days=5 * number)
            window.demand_closes_at = window.no_cancel_from = window.bidding_closes_at = (
                window.starts_at - timedelta(days=1))
            window.state = "CLEARED"
            window.save(force_insert=True)
            demand.pk, demand.window, demand.reference = uuid7(now()), window, f"missed {number}"
            demand.save(force_insert=True)
        m.Admission.objects.create(
            id=uuid7(now()), node_class=world.node_class("harbour"), month=base.date().replace(day=1), zone="EU",
            unit_hours=7, state="ADMITTED", asked_at=now(), decided_at=now(),
        )  # fmt: skip


def lapse_nothing() -> None:
    missed_by_all()
    row = m.Admission.objects.get(unit_hours=7, node_class__party__slug="harbour")
    made(m.LapseRule, windows=2, person="ann", reason="r", at=now())
    notice = made(m.LapseNotice, admission=row, missed=1, at=world.day(400).replace(day=11))
    made(m.Lapse, admission=row, notice=notice, windows=[], at=now(), unit_hours_before=7, unit_hours_after=7)


def lapse_too_early() -> None:
    missed_by_all()
    row = m.Admission.objects.get(unit_hours=7, node_class__party__slug="harbour")
    notice = made(m.LapseNotice, admission=row, missed=1, at=world.day(400).replace(day=11))
    made(m.Lapse, admission=row, notice=notice, windows=[], at=now(), unit_hours_before=7, unit_hours_after=0)


def lapse_under_a_bid() -> None:
    missed_by_all()
    row = m.Admission.objects.get(unit_hours=7, node_class__party__slug="harbour")
    made(m.LapseRule, windows=2, person="ann", reason="r", at=now())
    with behind_the_triggers():
        bid = m.Bid.objects.filter(node_class=row.node_class, state="awarded").first()
        assert bid is not None
        earlier = m.Window.objects.get(name="missed 0")
        earlier.pk, earlier.number, earlier.name = uuid7(now()), 950, "bid in"
        earlier.bidding_closes_at -= timedelta(days=30)
        earlier.demand_closes_at = earlier.no_cancel_from = earlier.bidding_closes_at
        earlier.save(force_insert=True)
        bid.pk, bid.window, bid.reference, bid.quantity_units = uuid7(now()), earlier, "stands", 1
        bid.start_slot, bid.end_slot, bid.minimum_units = 0, 2, 0
        bid.save(force_insert=True)
    notice = made(m.LapseNotice, admission=row, missed=1, at=world.day(400).replace(day=11))
    made(m.Lapse, admission=row, notice=notice, windows=[], at=now(), unit_hours_before=7, unit_hours_after=1)


def wind_down() -> dict[str, Any]:
    return {"lease": m.Lease.objects.first(), "cause": "tier", "sentence": "s", "at": now()}


def device() -> dict[str, Any]:
    return {"node_class": world.node_class("harbour"), "key_sha256": HASH, "label": "l", "enrolled_at": now()}


def fresh(**changes: Any) -> None:
    """Change a demand of alder's that stands in a window which collects."""
    from tests.architecture.test_constraints import change_demand, fresh_demand

    fresh_demand()
    change_demand(**{name: value() if callable(value) else value for name, value in changes.items()})


def approval() -> dict[str, Any]:
    from tests.architecture.test_constraints import fresh_demand

    approver = seat("alder")
    told = {"limit_micros": 10**15, "limit_set_by": approver, "set_at": now()}
    m.SeatLimit.objects.get_or_create(seat=approver, defaults=told)
    return {"demand": fresh_demand(), "seat": approver, "is_approved": True, "reason": "r", "at": now()}


def approved_by_its_poster() -> None:
    row = approval()
    m.Demand.objects.filter(pk=row["demand"].pk).update(posted_by=row["seat"])
    made(m.DemandApproval, **row)


def over_threshold(**rule: Any) -> Break:
    def write() -> None:
        fresh()
        spending_rule(**rule)
        if rule.get("needs_purchase_order"):
            fresh(state="pending", quantity_units=2)
        else:
            fresh(quantity_units=2)

    return write


def demand_changed(reference: str, **columns: Any) -> None:
    with behind_the_triggers():
        m.Demand.objects.filter(reference=reference).update(**columns)


def award_after(prepare: Callable[[], None], reference: str = "climate", provider: str = "harbour") -> Break:
    """Award a pair that was good, after something about it has changed."""

    def write() -> None:
        from tests.architecture.test_constraints import award

        prepare()
        award(reference, provider, start_slot=9, end_slot=10)

    return write


# --- papers that are good but for one thing ---------------------------------------------------------------------------
INSTANT = timedelta(microseconds=1)


def health_under(*, signers: tuple[str, ...] = ("alder", "granite"), is_ended: bool = False, **changes: Any) -> Break:
    """Award health data under an agreement that holds exactly from the window's first instant to its last."""

    def write() -> None:
        from tests.architecture.test_constraints import award

        demand_changed("genome", data_class_id="regulated-health", purpose="research")
        span = {"valid_from": world.window().starts_at, "valid_until": world.window().ends_at}
        told = {name: value() if callable(value) else value for name, value in changes.items()}
        row = made(m.Agreement, **agreement() | span | told)
        for slug in signers:
            made(m.AgreementSignature, agreement=row, party=world.party(slug), seat=seat(slug), title="t", at=now())
        if is_ended:
            made(m.AgreementEnd, agreement=row, seat=seat("alder"), reason="r", at=now())
        award("genome", "granite", start_slot=9, end_slot=10)

    return write


def keys_shown(*, review: dict[str, Any] | None = None, site: dict[str, Any] | None = None,
               **changes: Any) -> Break:  # fmt: skip
    """Award under legal control while the document about the keys holds exactly through the window."""

    def write() -> None:
        from tests.architecture.test_constraints import award

        row = m.Evidence.objects.get(party__slug="harbour", control_id="key-custody")
        span = {"valid_from": world.window().starts_at, "valid_until": world.window().ends_at}
        told = {name: value() if callable(value) else value for name, value in changes.items()}
        with behind_the_triggers():
            m.Evidence.objects.filter(pk=row.pk).update(**span | told)
            m.EvidenceReview.objects.filter(evidence=row).update(**review or {"is_accepted": True})
            m.Site.objects.filter(party__slug="harbour").update(
                **{name: row.submitted_at + shift for name, shift in (site or {}).items()})
        award("sovereign", "harbour", start_slot=9, end_slot=10)

    return write


def starts(shift: timedelta) -> Callable[[], datetime]:
    return lambda: world.window().starts_at + shift


def stops(shift: timedelta) -> Callable[[], datetime]:
    return lambda: world.window().ends_at + shift


# Each but the first of its kind is refused by one line of the wall alone.
AGREEMENT, CONTROL = "award_has_the_agreement_of_both", "award_proves_legal_control"
MORE_PAPERS: dict[str, tuple[str, Break]] = {
    "an agreement of the whole window": ("", health_under()),
    "an agreement that ends an instant before the lease": (AGREEMENT, health_under(valid_until=stops(-INSTANT))),
    "an agreement that begins an instant after it": (AGREEMENT, health_under(valid_from=starts(INSTANT))),
    "an agreement that was ended": (AGREEMENT, health_under(is_ended=True)),
    "an agreement for another purpose": (AGREEMENT, health_under(purposes=["payment"])),
    "an agreement of another kind": (AGREEMENT, health_under(control_id="dpa")),
    "an agreement with another buyer": (AGREEMENT, health_under(
        buyer=lambda: world.party("birch"), signers=("birch", "granite"))),
    "an agreement with another provider": (AGREEMENT, health_under(
        provider=lambda: world.party("harbour"), signers=("alder", "harbour"))),
    "an agreement that its provider did not sign": (AGREEMENT, health_under(signers=("alder",))),
    "an agreement that its buyer did not sign": (AGREEMENT, health_under(signers=("granite",))),
    "a document of the whole window": ("", keys_shown()),
    "a document that ends an instant before the lease": (CONTROL, keys_shown(valid_until=stops(-INSTANT))),
    "a document that begins an instant after it": (CONTROL, keys_shown(valid_from=starts(INSTANT))),
    "a document about another country": (CONTROL, keys_shown(country="DE")),
    "a document of another party": (CONTROL, keys_shown(party=lambda: world.party("granite"))),
    "a document of another site": (CONTROL, keys_shown(site_id=lambda: world.node_class("granite").site_id)),
    "a document about another control": (CONTROL, keys_shown(control_id="pci-scope")),
    "a document that was refused": (CONTROL, keys_shown(review={"is_accepted": False})),
    "a document from before the site moved": (CONTROL, keys_shown(site={"moved_at": INSTANT})),
    "a document of the day the site moved": ("", keys_shown(site={"moved_at": -INSTANT})),
    "a document from before its keys moved": (CONTROL, keys_shown(site={"control_changed_at": INSTANT})),
}  # fmt: skip


def ends(control: str, provider: str = "harbour") -> None:
    row = m.Evidence.objects.get(party__slug=provider, control_id=control)
    made(m.EvidenceEnd, evidence=row, seat=row.seat, reason="r", at=now())


def owned_from_abroad() -> None:
    m.Party.objects.filter(slug="harbour").update(parent=world.party("prairie"))


def become_a_prosumer(slug: str) -> None:
    with behind_the_triggers():  # its phase has not come, and that is another wall
        m.Party.objects.filter(slug=slug).update(kind="prosumer")


def kind_closed() -> None:
    demand_changed("climate", tier_min=1)
    with behind_the_triggers():
        m.KindLimit.objects.filter(kind="university").update(tier_max=0)


def us_data() -> None:
    made(m.DataClass, code="us-only", name="u", tier_min=0, zone_id="US", source="s")
    demand_changed("climate", data_class_id="us-only")


CONSTRAINTS: dict[str, Break] = {
    "control_kind_is_known": breaking(m.Control, lambda: {"code": "new", "name": "n", "asks": "a", "source": "s"},
                                      kind="wish"),
    "control_code_is_a_word": breaking(m.Control, lambda: {"name": "n", "asks": "a", "source": "s", "kind": "control"},
                                       code="Two words"),
    "a_tier_asks_once_for_a_control": breaking(m.TierControl, lambda: {"tier_id": 3}, control_id="iso-27001"),
    "a_tier_is_offered_once_in_a_zone": twice(m.TierZone, lambda: {"tier_id": 3, "zone_id": "EU"}),
    "kind_limit_is_of_a_provider": breaking(m.KindLimit, lambda: {"kind": "verifier", "reason": "r"}, tier_max=0),
    "data_class_is_a_word_with_a_tier": breaking(m.DataClass, lambda: {"code": "new", "name": "n", "source": "s"},
                                                 tier_min=4),
    "evidence_ends_after_it_begins": breaking(m.Evidence, evidence, valid_from=lambda: later(40)),
    "evidence_is_submitted_before_it_ends": breaking(m.Evidence, evidence, submitted_at=lambda: later(40)),
    "evidence_review_has_a_reason": breaking(m.EvidenceReview, review, reason=""),
    "evidence_end_has_a_reason": lambda: quietly(lambda: made(
        m.EvidenceEnd, evidence=made(m.Evidence, **evidence()), seat=seat("harbour"), reason="", at=now())),
    "agreement_ends_after_it_begins": breaking(m.Agreement, agreement, valid_from=lambda: later(40)),
    "agreement_names_its_purposes": breaking(m.Agreement, agreement, purposes=list),
    "agreement_is_between_two": breaking(m.Agreement, agreement, provider=lambda: world.party("alder")),
    "a_party_signs_an_agreement_once": twice(m.AgreementSignature, signature),
    "agreement_end_has_a_reason": lambda: quietly(lambda: made(
        m.AgreementEnd, agreement=made(m.Agreement, **agreement()), seat=seat("alder"), reason="", at=now())),
    "zone_versions_count_up": twice(m.ZoneChange, zone_change),
    "zone_change_has_a_source": breaking(m.ZoneChange, zone_change, source=""),
    "incident_is_about_a_provider_or_a_product": breaking(m.Incident, incident, party=None),
    "incident_of_a_product_names_its_class": breaking(m.Incident, incident, tier=1),
    "closed_incident_has_its_post_mortem": breaking(m.Incident, incident, closed_at=now),
    "incident_clock_is_72_hours": breaking(m.Incident, incident, notify_by=later),
    "incident_step_has_person_and_reason": lambda: quietly(lambda: made(
        m.IncidentStep, incident=made(m.Incident, **incident()), step="opened", person="", reason="r", at=now())),
    "spending_rule_asks_one_to_five": lambda: quietly(lambda: spending_rule(approvals_needed=6)),
    "seat_limit_is_not_negative": lambda: quietly(lambda: made(m.SeatLimit, seat=seat("alder"), limit_micros=-1)),
    "a_party_names_a_budget_once": twice(m.Budget, budget),
    "budget_action_is_known": breaking(m.Budget, budget, action="hope"),
    "budget_has_money_and_time": breaking(m.Budget, budget, limit_micros=0),
    "a_party_names_a_pilot_once": twice(m.Pilot, pilot),
    "pilot_is_capped_and_ends": breaking(m.Pilot, pilot, cap_micros=0),
    "a_seat_judges_a_demand_once": twice(m.DemandApproval, approval),
    "approval_has_a_reason": breaking(m.DemandApproval, approval, reason=""),
    "carve_out_has_units_and_time": breaking(m.CarveOut, carve_out, units=0),
    "funding_policy_is_known": breaking(m.FundingSource, lambda: {"code": "c", "name": "n", "source": "s"},
                                        policy="any"),
    "funding_tag_has_units_and_time": breaking(m.FundingTag, funding_tag, units=0),
    "funding_prices_run_upward": breaking(m.FundingTag, funding_tag, floor_micros=2, ceiling_micros=1),
    "calendar_kind_is_known": breaking(m.CalendarRule, calendar_rule, kind="ajar"),
    "calendar_hours_lie_in_a_week": breaking(m.CalendarRule, calendar_rule, until_hour=25),
    "a_device_is_enrolled_once": twice(m.Device, device),
    "a_machine_key_is_enrolled_once": lambda: unguarded(lambda: m.NodeClass.objects.filter(
        party__slug="harbour").update(machine_key=world.node_class("granite").machine_key)),
    "one_revenue_split_from_an_instant": lambda: (
        made(m.RevenueSplit, **(row := revenue_split())), made(m.RevenueSplit, **row), None)[2],
    "a_member_has_one_share_of_a_split": twice(m.SplitShare, split_share),
    "split_share_is_a_part": breaking(m.SplitShare, split_share, share_ppm=0),
    "a_member_is_paid_once_of_a_payment": twice(m.MemberShare, member_share),
    "set_aside_is_a_share": lambda: quietly(
        lambda: made(m.SetAsideRule, share_ppm=10**6 + 1, person="ann", reason="r", at=now())),
    "set_aside_says_who_and_why": lambda: quietly(
        lambda: made(m.SetAsideRule, share_ppm=1, person="", reason="r", at=now())),
    # Behind the triggers: the leases of this world are judged, and nothing is told of one after that.
    "one_egress_reading_per_lease_and_slot": lambda: unguarded(twice(m.EgressReading, egress)),
    "egress_is_not_negative": lambda: unguarded(breaking(m.EgressReading, egress, egress_bytes=-1)),
    "report_kind_is_known": breaking(m.Report, report, kind="gossip"),
    "report_is_about_somebody_else": breaking(m.Report, report, about=lambda: world.party("elm")),
    "report_has_its_deposit": lambda: quietly(no_deposit),
    "report_state_says_who_decided": report_then(state="triaged"),
    "report_is_upheld_by_two_people": upheld_by_one,
    "report_rule_asks_a_deposit": lambda: quietly(
        lambda: made(m.ReportRule, deposit_micros=0, reward_micros=0, person="ann", reason="r", at=now())),
    "report_rule_says_who_and_why": lambda: quietly(
        lambda: made(m.ReportRule, deposit_micros=1, reward_micros=0, person="ann", reason="", at=now())),
    "comparator_quote_has_its_source": breaking(m.ComparatorQuote, quote, source=""),
    "comparator_quote_lies_behind_us": breaking(m.ComparatorQuote, quote, quoted_on=lambda: later().date()),
    "comparator_quote_is_a_price": breaking(m.ComparatorQuote, quote, price_micros=0),
    "comparator_quote_is_entered_once": twice(m.ComparatorQuote, quote),
    "lapse_rule_leaves_time_for_a_notice": lambda: quietly(
        lambda: made(m.LapseRule, windows=1, person="ann", reason="r", at=now())),
    "lapse_rule_says_who_and_why": lambda: quietly(
        lambda: made(m.LapseRule, windows=2, person="ann", reason="", at=now())),
    "lapse_notice_follows_a_missed_window": breaking(m.LapseNotice, lapse_notice, missed=0),
    "lapse_takes_something_away": lapse_nothing,
    "pack_is_numbered_once": twice(m.LeasePack, pack),
    "pack_of_the_start_is_the_first": breaking(m.LeasePack, pack, stage="start"),
    "one_counsel_rule_in_force_per_data_class": twice(m.CounselRule, counsel_rule),
    "counsel_rule_ends_after_it_begins": breaking(m.CounselRule, counsel_rule, ended_at=lambda: later(-1)),
    "counsel_says_why": breaking(m.CounselSignOff, sign_off, reason=""),
    "member_share_is_a_part_of_its_payment": breaking(m.MemberShare, member_share, amount_micros=8),
    "member_share_is_sent_or_needs_no_sending": breaking(m.MemberShare, member_share, final_at=None),
    "a_lease_is_wound_down_once_per_cause": twice(m.WindDown, wind_down),
    "wind_down_cause_is_known": breaking(m.WindDown, wind_down, cause="mood"),
}  # fmt: skip

RULES: dict[str, Break] = {
    "evidence_is_of_ones_own": breaking(m.Evidence, evidence, seat=lambda: seat("granite")),
    "evidence_is_of_ones_own_site": breaking(m.Evidence, evidence, site=lambda: world.node_class("granite").site),
    "evidence_hash_is_of_its_body": breaking(m.Evidence, evidence, body=b"y"),
    "evidence_of_legal_control_names_a_country": breaking(m.Evidence, evidence, country="DE"),
    "evidence_is_reviewed_by_a_second_person": breaking(m.EvidenceReview, review, seat=lambda: seat("harbour")),
    "evidence_is_reviewed_by_who_may": breaking(m.EvidenceReview, review, seat=lambda: seat("alder")),
    "evidence_is_accepted_before_it_ends": breaking(m.EvidenceReview, review, at=lambda: later(31)),
    "agreement_hash_is_of_its_body": breaking(m.Agreement, agreement, body=b"y"),
    "agreement_is_of_a_kind_of_agreement": breaking(m.Agreement, agreement, control_id="iso-27001"),
    "agreement_is_signed_by_who_may": breaking(m.AgreementSignature, signature, seat=lambda: seat("alder", "finance")),
    "zone_member_only_ends": lambda: quietly(lambda: m.ZoneMember.objects.filter(
        zone="EU", country="DE").update(country="CH")),
    "node_class_tier_suits_its_kind": lambda: quietly(lambda: (
        become_a_prosumer("harbour"),
        m.NodeClass.objects.filter(party__slug="harbour").update(tier=1))),
    "demand_data_is_frozen_after_collecting": lambda: quietly(
        lambda: m.Demand.objects.filter(reference="climate").update(required_controls=["pci-scope"])),
    "demand_data_is_not_refused": lambda: fresh(data_class_id="classified", tier_min=3),
    "demand_tier_suits_its_data": lambda: fresh(data_class_id="payment-card"),
    "demand_purpose_is_of_data_under_agreement": lambda: fresh(data_class_id="regulated-health", tier_min=2),
    "award_is_of_no_refused_data": award_after(lambda: demand_changed("climate", data_class_id="classified")),
    "award_suits_the_kind_of_provider": award_after(kind_closed),
    "award_holds_every_control_of_the_tier": award_after(
        lambda: (demand_changed("climate", tier_min=1), ends("tenant-isolation"), None)[2]),
    "award_holds_every_asked_control": award_after(lambda: demand_changed("climate", required_controls=["pci-scope"])),
    "award_keeps_data_in_its_zone": award_after(us_data),
    "award_keeps_the_ultimate_parent": award_after(owned_from_abroad, "sovereign"),
    "award_proves_legal_control": award_after(lambda: ends("key-custody"), "sovereign"),
    "award_has_the_agreement_of_both": award_after(
        lambda: demand_changed("genome", data_class_id="regulated-health", purpose="research"), "genome", "granite"),
    "award_is_of_nothing_frozen": award_after(
        lambda: quietly(lambda: made(m.Incident, **incident(), is_frozen=True))),
    "approval_is_by_who_may": breaking(m.DemandApproval, approval, seat=lambda: seat("alder", "finance")),
    "approval_is_by_another_person": approved_by_its_poster,
    "approval_is_within_the_seats_limit": breaking(m.DemandApproval, approval, seat=lambda: seat("alder", "approver")),
    "demand_over_the_threshold_is_approved": over_threshold(),
    "demand_over_the_threshold_names_its_order": over_threshold(needs_purchase_order=True),
    "demand_uses_its_own_budget_and_pilot": lambda: fresh(
        pilot=lambda: made(m.Pilot, **pilot() | {"party": world.party("birch")})),
    "pilot_demand_is_of_light_data": lambda: fresh(pilot=lambda: made(m.Pilot, **pilot()), tier_min=2),
    "pilot_demand_ends_in_time": lambda: fresh(pilot=lambda: made(m.Pilot, **pilot() | {"ends_at": later(1)})),
    "pilot_demand_keeps_its_cap": lambda: fresh(pilot=lambda: made(m.Pilot, **pilot() | {"cap_micros": 1})),
    "demand_stays_within_its_budget": lambda: fresh(
        budget=lambda: made(m.Budget, **budget()), state="funded", hold_id=lambda: uuid7(now()), funded_at=now),
    "carve_out_is_no_larger_than_its_class": breaking(m.CarveOut, carve_out, units=17),
    "carve_outs_do_not_overlap": twice(m.CarveOut, carve_out),
    "split_shares_make_a_whole": judged_now("split_is_whole", breaking(m.SplitShare, split_share, share_ppm=1)),
    "member_shares_make_the_payment": judged_now(
        "member_shares_sum", breaking(m.MemberShare, member_share, amount_micros=6)),
    "member_shares_are_of_one_payment": judged_now(
        "member_shares_sum", breaking(m.MemberShare, member_share, lead=lambda: world.party("fjord"))),
    "member_shares_follow_the_split": judged_now(
        "member_shares_sum", breaking(m.MemberShare, member_share, member=lambda: world.party("fjord"))),
    "member_share_stays_as_it_was_shared": lambda: quietly(
        lambda: (made(m.MemberShare, **member_share()), m.MemberShare.objects.update(attempt=2))),
    "pack_hash_is_of_its_body": breaking(m.LeasePack, pack, body=b"y"),
    "high_risk_lease_has_its_pack": high_risk_without_a_pack,
    "counsel_sign_off_is_by_counsel": breaking(m.CounselSignOff, sign_off, seat=lambda: seat("alder")),
    "counsel_is_another_person": signed_by_its_poster,
    "counsel_signs_while_demand_is_collected": breaking(
        m.CounselSignOff, sign_off, demand=lambda: world.demand("genome")),
    "award_has_counsels_sign_off": award_after(lambda: quietly(lambda: made(m.CounselRule, **counsel_rule()))),
    "pin_is_set_while_demand_is_collected": lambda: quietly(
        lambda: made(m.EgressPin, demand=world.demand("genome"), at=now())),
    "egress_reading_lies_in_its_lease": breaking(m.EgressReading, egress, slot=700),
    "report_starts_open": breaking(m.Report, report, **TRIAGED),
    "report_costs_and_earns_what_the_rule_says": breaking(m.Report, report, reward_micros=1),
    "report_holds_its_deposit": breaking(m.Report, report, hold_id=lambda: uuid7(now())),
    "report_stays_as_it_was_made": report_rewritten_by_its_owner,
    "report_skips_no_state": lambda: report_then(state="upheld", triaged_by="ann", decided_at=now(), **DECIDED)(),
    "decided_report_stays": decided_again,
    "upheld_report_gives_its_deposit_back": upheld_with_its_deposit_held,
    "lapse_is_of_what_was_let_in": lambda: lapse(unit_hours_before=10**9),
    "lapse_follows_its_notice": lapse,
    "lapse_comes_after_enough_windows": lapse_too_early,
    "lapse_leaves_what_bids_stand_on": lapse_under_a_bid,
    "bid_is_not_of_the_foundation": bid_of_the_foundation,
    "award_leaves_what_is_not_for_sale": award_after(lambda: quietly(lambda: made(m.CarveOut, **carve_out()))),
    "award_pays_the_full_cost_of_funded_capacity": award_after(lambda: quietly(lambda: made(
        m.FundingTag, **funding_tag("cost_recovery") | {"floor_micros": 10**9, "ceiling_micros": 10**9}))),
    "award_of_firm_demand_is_firm": award_after(
        lambda: quietly(lambda: made(m.CalendarRule, **calendar_rule(), is_firm=False))),
}  # fmt: skip
