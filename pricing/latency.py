"""Latency classes: one name for a bound on the round trip and for how it is probed (L10, L20, L50, L100, batch).

    L20     a clearing rule: the site's measured p95 from the named vantage is at most 20 ms
            an SLA target:   of the minutes with a known echo, 95 % at most 20 ms
            probed by        three verifiers, once a minute, all at one secret second; a minute is their median
    batch   no bound, no target: it waits

A demand that names a class may ask for more beside it and never for less.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pricing.errors import SlaError
from pricing.health import INTERVAL_SECONDS, PANEL_SEATS

TARGET = "latency_p95_ms_max"
LATENCY_TARGETS = ("latency_p50_ms_max", TARGET, "latency_p99_ms_max")


@dataclass(frozen=True)
class LatencyClass:
    """A class and its probe specification."""

    name: str
    bound_ms: int | None  # None: no bound
    percentile_bps: int = 9_500
    every_seconds: int = INTERVAL_SECONDS
    verifiers: int = PANEL_SEATS

    @property
    def words(self) -> str:
        """The class as people read it."""
        if self.bound_ms is None:
            return f"{self.name}: no bound; it waits"
        share = f"{self.percentile_bps / 100:g} % of the minutes at most {self.bound_ms} ms"
        return f"{self.name}: {share}, by the median of {self.verifiers} verifiers every {self.every_seconds} s"


CLASSES: Mapping[str, LatencyClass] = {
    each.name: each
    for each in (*(LatencyClass(f"L{bound}", bound) for bound in (10, 20, 50, 100)), LatencyClass("batch", None))
}


def terms_of_class(
    name: str, *, latency_ms_max: int | None, targets: Mapping[str, int]
) -> tuple[int | None, dict[str, int]]:
    """The bound and the targets of a demand that names a class, beside what it names itself.

    Raises SlaError with the `rule`: `no_such_class`, `looser_than_its_class`, `batch_has_no_bound`.
    """
    if name not in CLASSES:
        raise SlaError(f"A latency class is one of {', '.join(CLASSES)}.", rule="no_such_class", known=list(CLASSES))
    bound = CLASSES[name].bound_ms
    if bound is None:
        if latency_ms_max is not None or any(target in targets for target in LATENCY_TARGETS):
            raise SlaError("A batch waits: it has no bound on its latency.", rule="batch_has_no_bound")
        return None, dict(targets)
    if (latency_ms_max or 0) > bound or targets.get(TARGET, 0) > bound:
        raise SlaError(f"{name} is {bound} ms at most; this asks for less.", rule="looser_than_its_class")
    return bound if latency_ms_max is None else latency_ms_max, {TARGET: bound, **targets}


def class_of(*, latency_ms_max: int | None, targets: Mapping[str, int]) -> str:
    """The strictest class that a demand's bound and target both keep; batch without either, "" where none fits."""
    if latency_ms_max is None:
        return "" if any(target in targets for target in LATENCY_TARGETS) else "batch"
    asked = max(latency_ms_max, targets[TARGET]) if TARGET in targets else None
    kept = [each.name for each in CLASSES.values() if each.bound_ms and asked and asked <= each.bound_ms]
    return kept[0] if kept else ""
