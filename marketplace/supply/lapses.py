"""Quota that is not used goes to whoever waits: after N windows without a bid, with a notice first.

A window counts against an admission when it delivers in its month, had funded demand that the class could serve, closed
its bidding after the class was let in and after its last bid, and took no bid of it. The provider is told one window
before; nothing lapses before a further window was missed after that notice. What earlier bids stand on stays. The same
function of the database counts the windows for the service and for the wall behind it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection, transaction

from ledger.faults import point
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.errors import BadInput
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.supply.admission_models import Admission
from marketplace.supply.lapse_models import Lapse, LapseNotice, LapseRule

WINDOWS_MAX = 52

MISSED = """
SELECT a.id, array_agg(w.name ORDER BY w.bidding_closes_at, w.number),
       count(*) FILTER (WHERE w.bidding_closes_at > n.at), n.id,
       (SELECT coalesce(sum(b.quantity_units::numeric * (b.end_slot - b.start_slot)), 0) FROM marketplace_bid b
        JOIN marketplace_window o ON o.id = b.window_id
        WHERE b.node_class_id = a.node_class_id AND b.state IN ('opened', 'awarded') AND o.kind = 'market'
          AND o.state <> 'FAILED' AND marketplace_delivery_month(o.starts_at) = a.month)
FROM marketplace_admission a
CROSS JOIN LATERAL marketplace_missed_windows(a.id) missed
JOIN marketplace_window w ON w.id = missed.window_id
LEFT JOIN LATERAL (
    SELECT x.id, x.at FROM marketplace_lapsenotice x
    WHERE x.admission_id = a.id AND x.at > greatest(a.decided_at, missed.since) ORDER BY x.at LIMIT 1) n ON true
WHERE a.state = 'ADMITTED' AND a.month >= %s
GROUP BY a.id, n.id
ORDER BY a.decided_at, a.id
"""


def lapse_rule() -> LapseRule:
    """The rule in force; the first one comes with the database."""
    return LapseRule.objects.latest("id")


@transaction.atomic
def set_lapse_rule(*, windows: int, person: str, reason: str, now: datetime) -> LapseRule:
    """Change after how many windows without a bid quota lapses. Raises BadInput."""
    if not 2 <= require_whole(windows, field="windows") <= WINDOWS_MAX:
        raise BadInput(f"Quota lapses after 2 to {WINDOWS_MAX} windows: the one before the last is for the notice.",
                       field="windows")  # fmt: skip
    require_name(reason, field="reason", longest=300)
    rule = LapseRule.objects.create(windows=windows, person=require_name(person, field="person", longest=120),
                                    reason=reason, at=now)  # fmt: skip
    record(actor=person, action="set_lapse_rule", subject="admissions", reason=reason, now=now, windows=windows)
    return rule


@transaction.atomic
def lapse_unused(*, now: datetime) -> int:
    """Give notice of quota that is about to lapse, and let lapse what was noticed and missed again; returns how many.

    A step of every turn, before those who wait are let in.
    """
    this_month, windows = now.astimezone(UTC).date().replace(day=1), lapse_rule().windows
    with connection.cursor() as cursor:
        cursor.execute(MISSED, [this_month])
        found = cursor.fetchall()
    moved = 0
    rows = Admission.objects.select_related("node_class__party").in_bulk([row[0] for row in found])
    for pk, names, missed_since_notice, notice, promised in found:
        if len(names) >= windows and notice is not None and missed_since_notice >= 1:
            moved += _let_lapse(rows[pk], names, notice, int(promised), now)
        elif len(names) >= windows - 1 and notice is None:
            _give_notice(rows[pk], names, windows, now)
            moved += 1
    point("supply.lapse.before_commit")
    return moved


def _give_notice(row: Admission, names: list[str], windows: int, now: datetime) -> None:
    notice = LapseNotice.objects.create(admission=row, missed=len(names), at=now)
    party = row.node_class.party
    tell_parties(
        parties=[party.pk], about=f"lapse-notice:{notice.pk}", code="quota_lapses", now=now,
        sentence=f"{row.node_class.resource_class_id} in {row.month:%B %Y}: {len(names)} windows without a bid of "
        f"yours. Without a bid in the next one your quota goes to whoever waits.",
    )  # fmt: skip
    record(actor="market", action="notice_of_lapse", subject=row.node_class_id, now=now, month=str(row.month),
           reason=f"{len(names)} of {windows} windows without a bid", windows=names)  # fmt: skip


def _let_lapse(row: Admission, names: list[str], notice: int, promised: int, now: datetime) -> int:
    locked = Admission.objects.select_for_update().get(pk=row.pk)
    before, after = locked.unit_hours, min(locked.unit_hours, promised)
    if locked.state != "ADMITTED" or after == before:
        return 0
    Lapse.objects.create(admission=locked, notice_id=notice, unit_hours_before=before, unit_hours_after=after,
                         windows=names, at=now)  # fmt: skip
    if after:
        locked.unit_hours = after
    else:
        locked.state = "LAPSED"
    locked.save(update_fields=["unit_hours", "state"])
    tell_parties(
        parties=[row.node_class.party_id], about=f"lapse:{row.pk}:{before}", code="quota_lapsed", now=now,
        sentence=f"{before - after} unit-hours of {row.node_class.resource_class_id} in {row.month:%B %Y} lapsed after "
        f"{len(names)} windows without a bid. Ask again at any time.",
    )  # fmt: skip
    record(
        actor="market", action="quota_lapsed", subject=row.node_class_id, now=now, month=str(row.month), windows=names,
        reason=f"{len(names)} windows without a bid after notice", unit_hours=before - after,
    )  # fmt: skip
    return 1
