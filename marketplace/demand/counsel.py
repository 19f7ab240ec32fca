"""Counsel's sign-off (M-071): where a buyer asks for it, nothing is awarded to a demand without it.

The sign-off is one paper more that the demand needs: without it no bid is eligible, and the database refuses the award
whoever writes it. It is given while the window collects demand, for the terms as they stand then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.services import find_named
from marketplace.compliance.models import DataClass
from marketplace.demand.counsel_models import CounselRule, CounselSignOff
from marketplace.demand.models import Demand
from marketplace.errors import BadInput, NotYours, ReferenceReused, SamePerson, WindowClosed
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act

OPINION_MAX_BYTES = 4 * 2**20


@transaction.atomic
def require_counsel(*, seat: Seat, data_class: str | None, now: datetime) -> CounselRule:
    """From now on demands of that data class, or all for None, need counsel. Asking twice is one rule."""
    require_act(seat, "rules", "ask for counsel's sign-off")
    chosen = find_named(DataClass, data_class, field="data_class")
    rule, is_new = CounselRule.objects.get_or_create(
        party=seat.party, data_class=chosen, ended_at=None, defaults={"id": uuid7(now), "seat": seat, "from_at": now}
    )
    if is_new:
        record(actor=seat.user.email, action="require_counsel", subject=seat.party.slug, now=now,
               reason=f"data class {data_class}" if data_class else "every demand")  # fmt: skip
    return rule


@transaction.atomic
def end_counsel_rule(*, seat: Seat, rule_id: UUID, reason: str, now: datetime) -> None:
    """End a rule; demands that are open then need counsel no more because of it."""
    require_act(seat, "rules", "end the rule")
    require_name(reason, field="reason", longest=300)
    if not CounselRule.objects.filter(pk=rule_id, party=seat.party, ended_at=None).update(ended_at=now):
        raise NotYours("There is no such rule in force.")
    record(actor=seat.user.email, action="end_counsel_rule", subject=seat.party.slug, reason=reason, now=now,
           rule=str(rule_id))  # fmt: skip


@transaction.atomic
def sign_off(
    *, seat: Seat, demand: Demand, is_approved: bool, reason: str, opinion: bytes | None = None, now: datetime
) -> CounselSignOff:
    """Give counsel's word on a demand while its window collects; the same word again is one act.

    Raises RoleForbidden for a seat that is not counsel, SamePerson for who posted the demand, ReferenceReused when
    counsel has said otherwise, WindowClosed once bidding has begun.
    """
    require_act(seat, "counsel", "sign off demands")
    locked = Demand.objects.select_for_update(of=("self",)).select_related("window", "posted_by").filter(
        pk=demand.pk, party=seat.party).first()  # fmt: skip
    if locked is None:
        raise NotYours("There is no such demand.")
    require_name(reason, field="reason", longest=300)
    if opinion is not None and not 1 <= len(opinion) <= OPINION_MAX_BYTES:
        raise BadInput("An opinion is a file of at most 4 MiB.", field="opinion")
    standing = CounselSignOff.objects.filter(demand=locked).first()
    if standing is not None:
        if standing.is_approved != is_approved:
            raise ReferenceReused("Counsel has spoken on this demand; post it anew for another word.", field="demand")
        return standing
    if locked.posted_by is not None and locked.posted_by.user_id == seat.user_id:
        raise SamePerson("Counsel is another person than posted the demand.")
    if locked.window.state != "COLLECTING":
        raise WindowClosed("Demand is signed off while its window collects it.", state=locked.window.state)
    digest = hashlib.sha256(opinion).digest() if opinion is not None else None
    word = CounselSignOff.objects.create(
        demand=locked, seat=seat, is_approved=is_approved, reason=reason, opinion_sha256=digest, at=now
    )
    record(actor=seat.user.email, action="counsel_sign_off", subject=locked.pk, reason=reason, now=now,
           is_approved=is_approved, opinion=digest.hex() if digest else None)  # fmt: skip
    return word


def without_counsel(demands: Iterable[Demand]) -> set[UUID]:
    """Which of these demands need counsel's sign-off and do not have it."""
    rows = list(demands)
    rules = CounselRule.objects.filter(party__in={row.party_id for row in rows}, ended_at=None)
    asked = set(rules.values_list("party_id", "data_class_id"))
    needing = {
        row.pk for row in rows if (row.party_id, None) in asked
        or (row.data_class_id and (row.party_id, row.data_class_id) in asked)
    }  # fmt: skip
    if not needing:
        return set()
    signed = CounselSignOff.objects.filter(demand__in=needing, is_approved=True).values_list("demand_id", flat=True)
    return needing - set(signed)


def waiting_for_counsel(party: Party) -> list[Demand]:
    """A buyer's demands in windows that collect, which need counsel's word and have none yet."""
    rows = list(
        Demand.objects.filter(party=party, window__state="COLLECTING", counsel=None)
        .exclude(state__in=("withdrawn", "refused")).select_related("window", "data_class").order_by("posted_at", "id")
    )  # fmt: skip
    needing = without_counsel(rows)
    return [row for row in rows if row.pk in needing]
