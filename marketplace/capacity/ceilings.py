"""What is paid for capacity under cost recovery: the clearing price, and no more than the funding's ceiling (M-024).

A funder lets such machines be sold for what they cost. All who trade in a slot pay one price, which may lie above that;
the rest was never earned, so it goes back to the buyer whose money it is. Not to the provider: that would be profit
from a grant. Not to the Foundation or its pool: it would profit from the shortage that it makes the market for. A
class is bounded as a whole, as its asks are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from marketplace.capacity.models import FundingTag


class Ceilings:
    """The tags of some node classes that bound what they are paid, read once."""

    def __init__(self, node_classes: Iterable[UUID]) -> None:
        self._tags: Mapping[UUID, list[FundingTag]] = defaultdict(list)
        rows = FundingTag.objects.filter(node_class__in=set(node_classes), source__policy="cost_recovery")
        for tag in rows.exclude(ceiling_micros=None):
            self._tags[tag.node_class_id].append(tag)

    def micros(self, node_class: UUID, hour_at: datetime, *, signed_at: datetime) -> int | None:
        """The most a unit is paid in the hour that begins at `hour_at`, in micro-USD; None where nothing bounds it.

        A tag that was made after the lease was signed does not change it.
        """
        live = [
            tag.ceiling_micros for tag in self._tags.get(node_class, ())
            if tag.from_at <= hour_at < tag.until_at and tag.made_at <= signed_at and tag.ceiling_micros is not None
        ]  # fmt: skip
        return min(live, default=None)
