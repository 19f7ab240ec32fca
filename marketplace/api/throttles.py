"""How often a party, or an address without a key, may ask: a number per minute, told on every answer.

Counted in the cache of the process. With several web processes each has its own count, so the limit is per process;
put a shared cache in `CACHES` to make it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from rest_framework.request import Request

from marketplace.doors import address_of
from marketplace.parties.models import Party

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Rate:
    """What is left of a minute's allowance."""

    policy: str
    limit: int
    left: int
    reset_seconds: int
    is_over: bool

    def headers(self) -> dict[str, str]:
        """Return the RateLimit headers of an answer."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.policy}";r={self.left};t={self.reset_seconds}',
        }


def count_request(request: Request, party: Party | None, now: datetime) -> Rate:
    """Count one request of a party, or of an address when no party is known, and return what is left."""
    if party is not None:
        policy, limit, who = "party", settings.API_PARTY_PER_MINUTE, str(party.pk)
    else:
        policy, limit, who = "address", settings.API_ADDRESS_PER_MINUTE, address_of(request)
    minute, second = divmod(int(now.timestamp()), WINDOW_SECONDS)
    name = f"api:{policy}:{who}:{minute}"
    cache.add(name, 0, timeout=2 * WINDOW_SECONDS)
    try:
        used = cache.incr(name)
    except ValueError:  # evicted between the two calls
        used = 1
    return Rate(policy, limit, max(0, limit - used), WINDOW_SECONDS - second, used > limit)
