"""Appeals: a provider disputes a request within its 72 hours, two persons outside the panel judge the evidence.

The dispute freezes the request on chain. Two equal opinions decide; undecided after 14 days means no slash, which the
contract keeps by itself: without the arbiter's word in time a disputed request can never be executed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.rails import sender
from marketplace.catalogue.limits import require_name
from marketplace.errors import BadInput, NotYours, TooLate, WrongStanding
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.parties.roles import require_person
from marketplace.slashing.models import Appeal, Opinion, SlashCase
from marketplace.supply.onchain import ensure_address

APPEAL_DAYS = 14
OPINIONS_NEEDED = 2
GROUNDS_MAX = 1000
PANEL_ACTOR = "slasher:"
OUTCOMES_OF = {"dispute": "disputed", "uphold": "upheld", "veto": "vetoed", "lapse": "lapsed"}  # by the call on chain


@transaction.atomic
def open_appeal(*, case: SlashCase, party: Party, person: str, grounds: str, now: datetime) -> Appeal:
    """Dispute a request to slash one's own class; the same case again is the appeal that stands.

    Raises NotYours for another's case, WrongStanding when nothing is requested, TooLate after the time lock, BadInput
    without grounds.
    """
    locked = SlashCase.objects.select_for_update(of=("self",)).select_related("node_class__party").filter(
        pk=case.pk, node_class__party=party
    ).first()  # fmt: skip
    if locked is None:
        raise NotYours("There is no such case.")
    standing = Appeal.objects.filter(case=locked).first()
    if standing:
        return standing
    require_name(grounds.strip(), field="grounds", longest=GROUNDS_MAX)
    if locked.outcome != "requested" or locked.executable_at is None or locked.chain_id_of_request is None:
        raise WrongStanding("Only a request that the chain has taken can be disputed.", outcome=locked.outcome)
    if now >= locked.executable_at:
        raise TooLate("The time to dispute is over.", until=locked.executable_at.isoformat())
    ensure_address(party=party)
    appeal = Appeal.objects.create(
        id=uuid7(now), case=locked, person=person, grounds=grounds.strip(), opened_at=now,
        decide_by=now + timedelta(days=APPEAL_DAYS),
    )  # fmt: skip
    sender.submit(
        key=f"dispute:{locked.chain_id_of_request}", role=f"provider:{party.pk}", contract="stake", function="dispute",
        args=[locked.chain_id_of_request], now=now,
    )  # fmt: skip
    record(actor=person, action="open_appeal", subject=locked.pk, reason=appeal.grounds, now=now)
    return appeal


@transaction.atomic
def give_opinion(*, case: SlashCase, judge: str, upholds: bool, reason: str, now: datetime) -> Opinion:
    """One judge's opinion on an appeal; the second equal one decides. A judge has one opinion and keeps it.

    Raises WrongStanding for a case that is not disputed or is decided, BadInput for a member of the panel, the party's
    own person, a second opinion of the same judge or an empty reason, TooLate after 14 days.
    """
    require_person(judge, "judge", "judge appeals")
    locked = SlashCase.objects.select_for_update(of=("self",)).select_related("appeal").get(pk=case.pk)
    appeal = getattr(locked, "appeal", None)
    if appeal is None or locked.outcome != "disputed" or _decision(appeal) is not None:
        raise WrongStanding("There is no open appeal to judge.", outcome=locked.outcome)
    if judge.startswith(PANEL_ACTOR) or judge == appeal.person:
        raise BadInput("A judge is neither of the panel nor of the provider.", field="judge")
    if Opinion.objects.filter(appeal=appeal, judge=judge).exists():
        raise BadInput("You have judged this appeal already; a second person decides.", field="judge")
    require_name(reason.strip(), field="reason", longest=GROUNDS_MAX)
    if now >= appeal.decide_by:
        raise TooLate("An appeal that is undecided after 14 days ends without a slash.",
                      until=appeal.decide_by.isoformat())  # fmt: skip
    opinion = Opinion.objects.create(
        appeal=appeal, judge=judge, upholds=upholds, reason=reason.strip(), given_at=now
    )
    record(actor=judge, action="judge_appeal", subject=locked.pk, reason=opinion.reason, now=now, upholds=upholds)
    decision = _decision(appeal)
    if decision is not None:
        function, role = ("uphold", "arbiter") if decision else ("veto", "veto")
        sender.submit(
            key=f"{function}:{locked.chain_id_of_request}", role=role, contract="stake", function=function,
            args=[locked.chain_id_of_request], now=now,
        )  # fmt: skip
    return opinion


@transaction.atomic
def confirm_appeals(*, now: datetime) -> int:
    """Learn from the chain what became of disputes, decisions and lapses; returns how many cases moved."""
    moved = 0
    for case in SlashCase.objects.select_for_update().filter(outcome__in=("requested", "disputed", "upheld")):
        for function, outcome in OUTCOMES_OF.items():
            key = f"{function}:{case.chain_id_of_request}"
            if case.chain_id_of_request and ChainIntent.objects.filter(key=key, state="final").exists():
                moved += _move(case, outcome, now)
    return moved


@transaction.atomic
def lapse_overdue(*, now: datetime) -> int:
    """Close on chain what ran out: disputes nobody decided, requests nobody executed; returns how many."""
    asked = 0
    for case in SlashCase.objects.filter(outcome__in=("requested", "disputed", "upheld")).exclude(
        chain_id_of_request=None
    ).select_related("appeal"):
        key = f"lapse:{case.chain_id_of_request}"
        if now > _deadline(case) and not ChainIntent.objects.filter(key=key).exists():
            sender.submit(
                key=key, role="custody", contract="stake", function="lapse", args=[case.chain_id_of_request], now=now
            )
            asked += 1
    return asked


def _deadline(case: SlashCase) -> datetime:
    """When a request can no longer be executed: 14 days after it, its dispute or its decision, and an hour."""
    assert case.executable_at is not None  # it was taken by the chain
    appeal = getattr(case, "appeal", None)
    since = [case.executable_at - timedelta(hours=72), *([appeal.opened_at] if appeal else [])]
    since += [opinion.given_at for opinion in appeal.opinions.all()] if appeal else []
    return max(since) + timedelta(days=APPEAL_DAYS, hours=1)


def _decision(appeal: Appeal) -> bool | None:
    """True when two uphold the request, False when two reject it, None before that."""
    given = list(appeal.opinions.values_list("upholds", flat=True))
    return next((side for side in (False, True) if given.count(side) >= OPINIONS_NEEDED), None)


def _move(case: SlashCase, outcome: str, now: datetime) -> int:
    order = ("requested", "disputed", "upheld", "vetoed", "lapsed")
    if order.index(outcome) <= order.index(case.outcome):
        return 0
    case.outcome = outcome
    case.save(update_fields=["outcome"])
    record(actor="chain", action=f"slash_{outcome}", subject=case.node_class_id, reason="final on chain", now=now,
           case=str(case.pk))  # fmt: skip
    return 1
