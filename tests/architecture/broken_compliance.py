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
from tests.owner import behind_the_triggers

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


def payout_share() -> dict[str, Any]:
    payout = m.Payout.objects.first()
    assert payout is not None
    split = m.RevenueSplit.objects.first() or made(m.RevenueSplit, **revenue_split())
    return {"payout": payout, "member": world.party("harbour"), "split": split, "amount_micros": payout.amount_micros}


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
    m.SeatLimit.objects.get_or_create(seat=approver, defaults={"limit_micros": 10**15})
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
    "a_member_has_one_share_of_a_payout": twice(m.PayoutShare, payout_share),
    "payout_share_is_not_negative": breaking(m.PayoutShare, payout_share, amount_micros=-1),
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
    "payout_shares_make_the_payout": judged_now(
        "payout_shares_sum", breaking(m.PayoutShare, payout_share, amount_micros=1)),
    "award_leaves_what_is_not_for_sale": award_after(lambda: quietly(lambda: made(m.CarveOut, **carve_out()))),
    "award_pays_the_full_cost_of_funded_capacity": award_after(lambda: quietly(lambda: made(
        m.FundingTag, **funding_tag("cost_recovery") | {"floor_micros": 10**9, "ceiling_micros": 10**9}))),
    "award_of_firm_demand_is_firm": award_after(
        lambda: quietly(lambda: made(m.CalendarRule, **calendar_rule(), is_firm=False))),
}  # fmt: skip
