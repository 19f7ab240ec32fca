"""Zone lists by version: a new list names its source and the day from which it holds; the past is never rewritten."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from django.db import transaction

from contracts.jurisdictions import INDEX_BY_COUNTRY
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import Zone, ZoneMember
from marketplace.catalogue.services import zone_countries
from marketplace.compliance.models import ZoneChange
from marketplace.errors import BadInput, PastDate
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act


@transaction.atomic
def adopt_zone_list(
    *, zone: Zone, members: Collection[str], source: str, valid_from: date, seat: Seat, now: datetime
) -> ZoneChange | None:
    """Let `zone` have exactly these members from a day on, which lies ahead. None when that changes nothing.

    Raises PastDate, BadInput for codes that are no ISO 3166 countries and for a list dated before the latest one.
    """
    require_act(seat, "operate", "change a zone list")
    require_name(source, field="source", longest=200)
    unknown = sorted(set(members) - set(INDEX_BY_COUNTRY))
    if unknown:
        raise BadInput("A member is a country of ISO 3166, in two capitals.", field="members", unknown=unknown[:10])
    if valid_from <= now.date():
        raise PastDate("A list holds from a day that lies ahead.", field="valid_from", today=now.date().isoformat())
    locked = Zone.objects.select_for_update().get(pk=zone.pk)
    latest = ZoneChange.objects.filter(zone=locked).order_by("version").last()
    if latest and valid_from <= latest.valid_from:
        raise BadInput("A later list stands already.", field="valid_from", latest=latest.valid_from.isoformat())
    standing = set(zone_countries(zone=locked, on=valid_from))
    added, removed = sorted(set(members) - standing), sorted(standing - set(members))
    if not added and not removed:
        return None
    for row in ZoneMember.objects.filter(zone=locked, country__in=removed, valid_from__lt=valid_from):
        if row.valid_until is None or row.valid_until > valid_from:
            row.valid_until = valid_from
            row.save(update_fields=["valid_until"])
    ZoneMember.objects.bulk_create(
        ZoneMember(zone=locked, country=country, valid_from=valid_from) for country in added
    )
    change = ZoneChange.objects.create(
        zone=locked, version=(latest.version if latest else 1) + 1, valid_from=valid_from, added=added,
        removed=removed, source=source, person=seat.user.email, at=now,
    )  # fmt: skip
    record(
        actor=seat.user.email, action="adopt_zone_list", subject=zone.pk, reason=source, now=now, added=added,
        removed=removed, valid_from=valid_from, version=change.version,
    )  # fmt: skip
    return change
