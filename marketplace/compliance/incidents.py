"""Incidents: what happened to a provider or a product, a switch that freezes it, and the clock of 72 hours.

While an incident is frozen nothing of it is bid or awarded. Leases that run already run on; they are somebody's work.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import ResourceClass, Zone
from marketplace.compliance.models import NOTICE, Incident, IncidentStep
from marketplace.errors import BadInput, PastDate
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act


@transaction.atomic
def open_incident(
    *, seat: Seat, title: str, party: Party | None = None, resource_class: ResourceClass | None = None,
    zone: Zone | None = None, tier: int | None = None, discovered_at: datetime, freeze: bool, reason: str,
    now: datetime,
) -> Incident:  # fmt: skip
    """Open an incident about a provider, a product, or a provider's product, and freeze it when asked.

    The notice is due 72 hours after it was discovered. A product is a resource class, in a zone and tier if named.
    """
    require_act(seat, "freeze", "open an incident")
    require_name(title, field="title", longest=160)
    if party is None and resource_class is None:
        raise BadInput("An incident is about a provider or a product.", field="party")
    if resource_class is None and (zone is not None or tier is not None):
        raise BadInput("A zone or tier belongs to a resource class.", field="resource_class")
    if discovered_at > now:
        raise BadInput("An incident is discovered before it is written down.", field="discovered_at")
    incident = Incident.objects.create(
        id=uuid7(now), title=title, party=party, resource_class=resource_class, zone=zone, tier=tier,
        discovered_at=discovered_at, notify_by=discovered_at + NOTICE, opened_at=now, opened_by=seat.user.email,
    )  # fmt: skip
    _step(incident, seat, "opened", reason, now)
    return set_frozen(incident=incident, seat=seat, is_frozen=True, reason=reason, now=now) if freeze else incident


@transaction.atomic
def set_frozen(*, incident: Incident, seat: Seat, is_frozen: bool, reason: str, now: datetime) -> Incident:
    """Freeze or thaw what the incident is about."""
    require_act(seat, "freeze", "freeze or thaw")
    standing = _open(incident)
    if standing.is_frozen != is_frozen:
        standing.is_frozen = is_frozen
        standing.save(update_fields=["is_frozen"])
        _step(standing, seat, "frozen" if is_frozen else "thawed", reason, now)
    return standing


@transaction.atomic
def note_notice(*, incident: Incident, seat: Seat, reason: str, now: datetime) -> Incident:
    """Note that those affected and the authorities were told; `reason` says whom and how."""
    require_act(seat, "freeze", "note a notice")
    standing = _open(incident)
    if standing.notified_at is None:
        standing.notified_at = now
        standing.save(update_fields=["notified_at"])
        _step(standing, seat, "notified", reason, now)
    return standing


@transaction.atomic
def close_incident(*, incident: Incident, seat: Seat, post_mortem_url: str, reason: str, now: datetime) -> Incident:
    """Close a thawed incident with the address of its post-mortem."""
    require_act(seat, "freeze", "close an incident")
    standing = _open(incident)
    if standing.is_frozen:
        raise BadInput("Thaw it before it is closed.", field="is_frozen")
    if urlsplit(post_mortem_url).scheme != "https" or len(post_mortem_url) > 300:
        raise BadInput("Name the https address of the post-mortem.", field="post_mortem_url")
    standing.closed_at, standing.post_mortem_url = now, post_mortem_url
    standing.save(update_fields=["closed_at", "post_mortem_url"])
    _step(standing, seat, "closed", reason, now)
    return standing


def hours_to_notice(incident: Incident, now: datetime) -> int:
    """Whole hours left on the clock; negative once it is overdue."""
    return int((incident.notify_by - now).total_seconds() // 3600)


def _open(incident: Incident) -> Incident:
    standing = Incident.objects.select_for_update(of=("self",)).get(pk=incident.pk)
    if standing.closed_at:
        raise PastDate("This incident is closed.", field="incident", closed_at=standing.closed_at.isoformat())
    return standing


def _step(incident: Incident, seat: Seat, step: str, reason: str, now: datetime) -> None:
    require_name(reason, field="reason", longest=300)
    IncidentStep.objects.create(incident=incident, step=step, person=seat.user.email, reason=reason, at=now)
    record(actor=seat.user.email, action=f"incident_{step}", subject=incident.pk, reason=reason, now=now,
           title=incident.title)  # fmt: skip
