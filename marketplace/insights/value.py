"""What a dollar buys: classes of consumer and of data-centre hardware compared by proven operations per USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from marketplace.catalogue.models import ResourceClass
from marketplace.supply.models import Benchmark

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Value:
    """One resource class: what it is said to do, what was proven, and what an hour of that costs."""

    code: str
    name: str
    price_micros: int  # per unit-hour, the catalogue's reference
    reference_ops_per_sec: int
    proven_ops_per_sec: int  # lower median of the live proofs of proven classes; 0 where nobody is proven
    proofs: int
    is_simulated: bool  # one of those proofs at least is recorded, not measured
    jitter_bps: int  # the worst of the live proofs that measured it; 0: not measured

    @property
    def reference_ops_per_usd(self) -> int:
        return ops_per_usd(self.reference_ops_per_sec, self.price_micros)

    @property
    def proven_ops_per_usd(self) -> int:
        return ops_per_usd(self.proven_ops_per_sec, self.price_micros)

    def mark(self) -> tuple[int, int, str]:
        """Where the class stands: the most operations per USD first, proven ones before reference rows alone."""
        return -self.proven_ops_per_usd, -self.reference_ops_per_usd, self.code


def ops_per_usd(ops_per_sec: int, price_micros: int) -> int:
    """Operations that one USD buys, rounded down; `price_micros` is per unit-hour. 0 for what has no price."""
    return ops_per_sec * SECONDS_PER_HOUR * 1_000_000 // price_micros if price_micros else 0


def values(now: datetime) -> list[Value]:
    """Return every class, the most operations per USD first: proven ones before those with a reference row alone."""
    proofs: dict[str, list[Benchmark]] = {}
    live = Benchmark.objects.filter(valid_until__gt=now, node_class__standing__state="PROVEN")
    newest = live.values("node_class").annotate(top=Max("epoch")).values_list("node_class", "top")
    tops = dict(newest)
    for each in live.select_related("node_class").defer("transcript", "message"):
        if tops[each.node_class_id] == each.epoch:
            proofs.setdefault(each.node_class.resource_class_id, []).append(each)
    found = [_value(each, proofs.get(each.code, [])) for each in ResourceClass.objects.all()]
    return sorted(found, key=Value.mark)


def _value(resource_class: ResourceClass, proofs: list[Benchmark]) -> Value:
    scores = sorted(each.ops_per_sec for each in proofs)
    return Value(
        code=resource_class.code, name=resource_class.name, price_micros=resource_class.reference_price_micros,
        reference_ops_per_sec=resource_class.ops_per_sec,
        proven_ops_per_sec=scores[(len(scores) - 1) // 2] if scores else 0, proofs=len(proofs),
        is_simulated=any(each.is_simulated for each in proofs),
        jitter_bps=max((each.jitter_bps for each in proofs), default=0),
    )  # fmt: skip
