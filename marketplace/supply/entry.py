"""The first lease of a node class: its cap, and a university's undertaking in place of the cash stake (M-016).

A class without a lease before is unknown, so what its first one may cost is bound, by a rule per tier that two people
set. A university may hand in its signed word instead of cash; a person of the Foundation reviews it, and from then on
the contract takes money for that class up to the amount, within the rule, though nothing is staked. When it ends, the
contract is told so.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.compliance.papers import Paper, require_paper
from marketplace.errors import BadInput, NotEligible, NotYours, SamePerson, TierNotForKind
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.supply.entry_models import EntryRule, Undertaking, UndertakingEnd, UndertakingReview
from marketplace.supply.models import Bid, NodeClass
from marketplace.supply.onchain import renew_attestation
from pricing.entry import first_lease_cap_micros

SEEN_DAYS = 30


def entry_rule(tier: int) -> EntryRule:
    """The rule in force for a tier; the first ones come with the database."""
    return EntryRule.objects.filter(tier=tier).latest("id")


@transaction.atomic
def set_entry_rule(
    *, tier: int, first_lease_cap_micros: int, undertaking_max_micros: int, seat: Seat, reason: str, now: datetime
) -> EntryRule:
    """Change what a first lease of a tier may cost and how much of it an institution's word carries.

    Raises BadInput for a cap above what the stake curve covers, or an undertaking above the cap.
    """
    require_act(seat, "operate", "set the rule of first leases")
    require_name(reason, field="reason", longest=300)
    if isinstance(tier, bool) or tier not in range(4):
        raise BadInput("A tier is a whole number from 0 to 3.", field="tier")
    most = _curve_cap()
    if not 1 <= require_whole(first_lease_cap_micros, field="first_lease_cap_micros") <= most:
        raise BadInput("The stake of a first lease ends at 80,000 dollars, and so does what it may be worth.",
                       field="first_lease_cap_micros", most_micros=most)  # fmt: skip
    if not 0 <= require_whole(undertaking_max_micros, field="undertaking_max_micros") <= first_lease_cap_micros:
        raise BadInput("An undertaking carries at most the first lease.", field="undertaking_max_micros")
    rule = EntryRule.objects.create(
        tier=tier, first_lease_cap_micros=first_lease_cap_micros, undertaking_max_micros=undertaking_max_micros,
        person=seat.user.email, reason=reason, at=now,
    )  # fmt: skip
    record(actor=seat.user.email, action="set_entry_rule", subject=f"T{tier}", reason=reason, now=now,
           first_lease_cap_micros=first_lease_cap_micros, undertaking_max_micros=undertaking_max_micros)  # fmt: skip
    return rule


def is_first_lease(node_class: NodeClass) -> bool:
    """Whether a class never won anything in a window that came to delivery."""
    won = Bid.objects.filter(node_class=node_class, state="awarded")
    return not won.filter(window__state__in=("DELIVERING", "SETTLED")).exists()


def require_first_lease(node_class: NodeClass, *, worth_micros: int) -> None:
    """Refuse a bid that would make a first lease worth more than the rule of its tier lets (`not_eligible`)."""
    rule = entry_rule(node_class.tier)
    if worth_micros > rule.first_lease_cap_micros and is_first_lease(node_class):
        raise NotEligible(
            "A first lease is worth less than that; later ones are bound by their stake alone.", rule="first_lease",
            worth_micros=worth_micros, most_micros=rule.first_lease_cap_micros,
        )  # fmt: skip


# -- undertakings ------------------------------------------------------------------------------------------------------
@transaction.atomic
def give_undertaking(
    *, seat: Seat, node_class: NodeClass, amount_micros: int, signatory: str, paper: Paper, now: datetime
) -> Undertaking:
    """Hand in a university's signed word to answer for a class up to an amount. It counts once it was reviewed.

    Raises TierNotForKind for another kind of provider, BadInput above what the tier's rule lets it carry.
    """
    require_act(seat, "sign", "give an undertaking")
    own = NodeClass.objects.select_for_update(of=("self",)).filter(pk=node_class.pk, party=seat.party).first()
    if own is None:
        raise NotYours("There is no such node class.")
    if seat.party.kind != "university":
        raise TierNotForKind("An undertaking stands in for a university's cash; others stake.", kind=seat.party.kind)
    require_name(signatory, field="signatory", longest=120)
    require_paper(paper, now=now)
    most = entry_rule(own.tier).undertaking_max_micros
    if not 1 <= require_whole(amount_micros, field="amount_micros") <= most:
        raise BadInput(f"An undertaking for T{own.tier} is a positive amount within the rule.", field="amount_micros",
                       most_micros=most)  # fmt: skip
    row = Undertaking.objects.create(
        id=uuid7(now), node_class=own, amount_micros=amount_micros, signatory=signatory, seat=seat, submitted_at=now,
        **paper.columns(),
    )  # fmt: skip
    record(actor=seat.user.email, action="give_undertaking", subject=own.pk, reason=signatory, now=now,
           amount_micros=amount_micros, sha256=bytes(row.sha256).hex())  # fmt: skip
    return row


@transaction.atomic
def review_undertaking(
    *, undertaking: Undertaking, seat: Seat, is_accepted: bool, reason: str, now: datetime
) -> UndertakingReview:
    """Accept or refuse an undertaking, once, as a second person, of the Foundation. Raises SamePerson, BadInput."""
    require_act(seat, "review", "review undertakings")
    require_name(reason, field="reason", longest=300)
    row = Undertaking.objects.select_related("seat", "node_class").get(pk=undertaking.pk)
    if seat.user_id == row.seat.user_id or seat.party_id == row.seat.party_id:
        raise SamePerson("An undertaking is reviewed by a second person, who does not belong to the provider.")
    standing = UndertakingReview.objects.filter(undertaking=row).first()
    if standing is not None:
        if standing.is_accepted != is_accepted:
            raise BadInput("It was reviewed before; that stays.", field="is_accepted")
        return standing
    review = UndertakingReview.objects.create(
        undertaking=row, seat=seat, is_accepted=is_accepted, reason=reason, at=now
    )
    record(actor=seat.user.email, action="review_undertaking", subject=row.node_class_id, reason=reason, now=now,
           is_accepted=is_accepted, amount_micros=row.amount_micros)  # fmt: skip
    return review


@transaction.atomic
def end_undertaking(*, undertaking: Undertaking, seat: Seat, reason: str, now: datetime) -> UndertakingEnd:
    """End an undertaking before its time: its own party takes it back, or a reviewer revokes it."""
    is_own = seat.party_id == undertaking.node_class.party_id
    require_act(seat, "sign" if is_own else "review", "end this undertaking")
    require_name(reason, field="reason", longest=300)
    end, is_new = UndertakingEnd.objects.get_or_create(
        undertaking=undertaking, defaults={"seat": seat, "reason": reason, "at": now}
    )
    if is_new:
        record(actor=seat.user.email, action="end_undertaking", subject=undertaking.node_class_id, reason=reason,
               now=now)  # fmt: skip
    return end


def undertaken_micros(node_class: NodeClass, at: datetime) -> int:
    """What accepted undertakings carry for a class then, within the rule of its tier; micro-USD."""
    rows = Undertaking.objects.filter(node_class=node_class, review__is_accepted=True, valid_from__lte=at,
                                      valid_until__gt=at).filter(Q(end=None) | Q(end__at__gt=at))  # fmt: skip
    return min(sum(rows.values_list("amount_micros", flat=True)), entry_rule(node_class.tier).undertaking_max_micros)


def tell_undertakings(*, now: datetime) -> int:
    """Tell the contract of each undertaking that began to count or ended: a step of every turn. Returns how many."""
    since = now - timedelta(days=SEEN_DAYS)
    told = 0
    accepted = Undertaking.objects.filter(review__is_accepted=True).select_related("node_class")
    for row in accepted.filter(review__at__gt=since, valid_from__lte=now).order_by("pk"):
        told += _tell(row, "begun", row.amount_micros, now)
    over = Q(end__at__lte=now, end__at__gt=since) | Q(valid_until__lte=now, valid_until__gt=since)
    for row in accepted.filter(over).order_by("pk"):
        told += _tell(row, "over", -row.amount_micros, now)
    return told


def _tell(row: Undertaking, what: str, more_micros: int, now: datetime) -> int:
    about = f"{row.pk.hex}-{what}"
    return int(renew_attestation(node_class=row.node_class, about=about, more_micros=more_micros, now=now) is not None)


def _curve_cap() -> int:
    return first_lease_cap_micros()
