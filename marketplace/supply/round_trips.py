"""Round trips of a site as the Foundation measured them from its vantages: what a latency bound is kept by.

A provider says none itself. A site that is new, or that moved, has none until it is measured from where it stands, and
serves no demand that bounds its latency. A figure that light could not keep is refused: at 200 km a millisecond in
fibre there and back, n ms reach 100 n km at most.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.db import transaction

from marketplace.catalogue.limits import require_whole
from marketplace.catalogue.models import Vantage
from marketplace.catalogue.services import find_named
from marketplace.errors import BadInput, NotYours, WrongStanding
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.supply.models import Site, SiteLatency

ECHOES_MIN = 20
RTT_MS_MAX = 10_000
HEARD_FOR = timedelta(days=30)  # an older measurement says little of now
KM_PER_MS = 100
EARTH_KM = 6371.0


@transaction.atomic
def record_round_trip(
    *, seat: Seat, site: Site, vantage_code: str, rtt_ms_p95: int, echoes: int, measured_at: datetime, now: datetime
) -> SiteLatency:  # fmt: skip
    """Put on record the p95 of a round trip, whole milliseconds over so many echoes, in the place of an earlier one.

    Raises RoleForbidden for a seat that may not review, NotYours, WrongStanding for a retired site, and BadInput for
    fewer than 20 echoes, a moment to come, over 30 days ago or before the site moved, and less than light needs.
    """
    require_act(seat, "review", "record round trips")
    here = Site.objects.select_for_update(of=("self",)).select_related("party").filter(pk=site.pk).first()
    if here is None:
        raise NotYours("There is no such site.")
    if here.retired_at is not None:
        raise WrongStanding("This site is retired.", site=here.code)
    vantage = find_named(Vantage, vantage_code, field="vantage_code")
    if vantage is None:
        raise BadInput("Choose a vantage.", field="vantage_code")
    if not 1 <= require_whole(rtt_ms_p95, field="rtt_ms_p95") <= RTT_MS_MAX:
        raise BadInput(f"A round trip is 1 to {RTT_MS_MAX} whole milliseconds.", field="rtt_ms_p95")
    if require_whole(echoes, field="echoes") < ECHOES_MIN:
        raise BadInput(f"A round trip is told by {ECHOES_MIN} echoes at least.", field="echoes", least=ECHOES_MIN)
    if not now - HEARD_FOR <= measured_at <= now:
        raise BadInput("It was measured within the last 30 days, and not in time to come.", field="measured_at")
    if here.moved_at is not None and measured_at <= here.moved_at:
        raise BadInput("The site has moved since: measure it where it stands.", field="measured_at",
                       moved_at=here.moved_at.isoformat())  # fmt: skip
    distance = distance_km((vantage.lat, vantage.lon), (here.lat, here.lon))
    if rtt_ms_p95 * KM_PER_MS < distance:
        raise BadInput(f"{vantage} is {distance:.0f} km from the site's coordinates: light needs longer.",
                       field="rtt_ms_p95", least_ms=math.ceil(distance / KM_PER_MS))  # fmt: skip
    before = here.latencies.filter(vantage=vantage).values_list("rtt_ms_p95", flat=True).first()
    row, _ = SiteLatency.objects.update_or_create(
        site=here, vantage=vantage, defaults={"rtt_ms_p95": rtt_ms_p95, "method": "measured"}
    )
    record(
        actor=seat.user.email, action="record_round_trip", subject=here.pk, reason=f"measured from {vantage.pk}",
        now=now, before_ms=before, after_ms=rtt_ms_p95, echoes=echoes, measured_at=measured_at.isoformat(),
    )  # fmt: skip
    tell_parties(parties=(here.party_id,), about=f"round-trip:{here.pk}:{vantage.pk}:{measured_at.isoformat()}",
                 code="round_trip_measured", now=now,
                 sentence=f"{here.code} is {rtt_ms_p95} ms from {vantage}, p95 of {echoes} echoes.")  # fmt: skip
    return row


def distance_km(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Great-circle distance of two places in degrees of latitude and longitude, in kilometres (haversine)."""
    lat, lon, other_lat, other_lon = map(math.radians, (*here, *there))
    half = math.sin((other_lat - lat) / 2) ** 2
    half += math.cos(lat) * math.cos(other_lat) * math.sin((other_lon - lon) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half)))
