"""Where a workload belongs: latency x privacy gives a route, a tier, a zone and the kind of demand to post.

    latency   tight: its class is L10, L20 or L50      loose: L100 or batch
    privacy   private: the data class needs T2 or T3, or stays in a zone or under an agreement    open: all else

                 private                            open
    tight        mesh: near and compliant           hybrid: near, a central venue takes the overflow
    loose        hybrid: the sensitive leg stays    central: neither nearness nor privacy asks for more

One rule goes before the square: data of T3 leaves no zone, so it has no central leg and its route is always mesh.
Each placement says which rule decided what, in words. Times are milliseconds (95th percentile, round trip), money is
integer micro-USD, hours are per week of 168.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pricing.errors import EstimateError
from pricing.latency import CLASSES

HOURS_PER_WEEK, WEEKS_PER_YEAR = 168, 52  # a year of 364 days: the price per hour errs upwards by 0.3 %
MICROS, TICK_MICROS = 1_000_000, 100
PRICE_MIN_MICROS, PRICE_MAX_MICROS = 100, 10**9
UNITS_MAX = 2**20
LATENCY_CLASSES_MS = tuple(each.bound_ms for each in CLASSES.values() if each.bound_ms)
PRIVATE_TIER, RESTRICTED_TIER = 2, 3

SHAPES = ("batch", "service", "gang")
SLA_BPS = {"tight": 9_990, "service": 9_950, "batch": 9_900}


@dataclass(frozen=True)
class Data:
    """What a data class asks for. The list of them is the market's, and handed in by whoever calls."""

    tier_min: int
    is_bound: bool = False  # it stays in a zone, or under an agreement of two parties
    is_refused: bool = False


@dataclass(frozen=True)
class Workload:
    """One line of the buyer's list."""

    name: str
    units: int
    data_class: str
    hours_per_week: int
    latency_ms: int | None = None  # p95 it needs; None: a batch that waits
    shape: str = "batch"  # batch: any part, any hour; service: the same in all its hours; gang: all at once or none
    zone: str = ""  # where its data must stay; "": the buyer's own, if its data class asks for one
    memory_gib: int = 0  # per unit; 0: any
    present_usd_per_year: int = 0  # what it costs now, whole dollars; 0: not told


@dataclass(frozen=True)
class Placement:
    """Where one workload belongs, with the rule that decided each part."""

    workload: Workload
    latency_class: str  # L10, L20, L50, L100 or batch
    is_tight: bool
    is_private: bool
    route: str  # mesh, hybrid or central
    tier: int
    zone: str  # "": anywhere
    control_zone: str  # where owner, operator and keys must sit; "": no rule
    kind: str  # divisible, window or block
    is_one_site: bool
    sla_bps: int
    price_limit_micros: int  # per unit-hour: what it costs now, down to the tick; 0: not told
    rules: tuple[str, ...]

    @property
    def quadrant(self) -> str:
        """The name of its square, such as `tight-private`."""
        return f"{'tight' if self.is_tight else 'loose'}-{'private' if self.is_private else 'open'}"


QUADRANTS = ("tight-private", "tight-open", "loose-private", "loose-open")


def place(
    workload: Workload, *, classes: Mapping[str, Data], home_zone: str = ""
) -> Placement:
    """Place one workload. `home_zone` is the buyer's own; raises EstimateError with the `field` that cannot be."""
    check(workload, classes=classes)
    data = classes[workload.data_class]
    tier = data.tier_min
    latency_class, is_tight, how_near = _latency(workload.latency_ms)
    is_private = tier >= PRIVATE_TIER or data.is_bound
    route, because = _route(is_tight, is_private, tier)
    zone, control, where = _zones(workload, tier, home_zone if is_private else "")
    kind, how = _kind(workload)
    price = _present_price_micros(workload)
    return Placement(
        workload=workload, latency_class=latency_class, is_tight=is_tight, is_private=is_private, route=route,
        tier=tier, zone=zone, control_zone=control, kind=kind, is_one_site=workload.shape == "gang",
        sla_bps=SLA_BPS["tight" if is_tight else ("service" if workload.shape == "service" else "batch")],
        price_limit_micros=price,
        rules=(because, how_near, f"{workload.data_class} data needs T{tier} at least", where, how),
    )  # fmt: skip


def place_all(
    workloads: Iterable[Workload], *, classes: Mapping[str, Data], home_zone: str = ""
) -> list[Placement]:
    """Place a whole list, in its order."""
    return [place(workload, home_zone=home_zone, classes=classes) for workload in workloads]


def check(workload: Workload, *, classes: Mapping[str, Data]) -> None:
    """Refuse what no workload can be; `field` in the facts says which part."""
    if not workload.name.strip() or len(workload.name) > 60 or not workload.name.isprintable():
        raise EstimateError("A workload has a name of 1 to 60 printable characters.", field="name")
    data = classes.get(workload.data_class)
    if data is None:
        taken = ", ".join(code for code, known in classes.items() if not known.is_refused)
        raise EstimateError(f"A data class is one of {taken}.", field="data_class")
    if data.is_refused:
        raise EstimateError(f"Work on {workload.data_class} data is not taken by this market.", field="data_class")
    if workload.shape not in SHAPES:
        raise EstimateError(f"A shape is one of {', '.join(SHAPES)}.", field="shape")
    for field, least, most in (("units", 1, UNITS_MAX), ("hours_per_week", 1, HOURS_PER_WEEK),
                               ("memory_gib", 0, 100_000), ("present_usd_per_year", 0, 10**12)):  # fmt: skip
        value = getattr(workload, field)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise EstimateError(f"A whole number from {least:,} to {most:,} belongs here.", field=field)
    latency = workload.latency_ms
    is_whole = isinstance(latency, int) and not isinstance(latency, bool)
    if latency is not None and not (is_whole and 1 <= latency <= 10_000):
        raise EstimateError("A latency is 1 to 10,000 ms; leave it out for a batch.", field="latency_ms")


def classes_that_hold(memory_gib: int, memory_bytes_of: Mapping[str, int]) -> list[str]:
    """Return every resource class with at least that memory per unit, so that unlike hardware can fill one demand."""
    return sorted(code for code, held in memory_bytes_of.items() if held >= memory_gib * 2**30)


def memory_bytes_of_model(parameters: int, bits: int) -> int:
    """Return what the weights of a model take: 70e9 parameters at 4 bit are 35e9 bytes. Nothing else is in it."""
    if parameters < 1 or bits not in (2, 3, 4, 5, 6, 8, 16, 32):
        raise EstimateError("A model has parameters of 2 to 32 bit.", field="bits" if parameters >= 1 else "parameters")
    return -(-parameters * bits // 8)


def _latency(latency_ms: int | None) -> tuple[str, bool, str]:
    """The loosest class that still keeps the need (35 ms needs L20, because L50 promises too little), and why."""
    if latency_ms is None:
        return "batch", False, "batch, because it waits"
    kept = [bound for bound in LATENCY_CLASSES_MS if bound <= latency_ms]
    if not kept:
        name = f"L{LATENCY_CLASSES_MS[0]}"
        return name, True, f"{name} promises too little for {latency_ms} ms: the demand names its own bound"
    name = f"L{kept[-1]}"
    return name, kept[-1] != LATENCY_CLASSES_MS[-1], f"{name}, the loosest class that keeps {latency_ms} ms"


def _route(is_tight: bool, is_private: bool, tier: int) -> tuple[str, str]:
    if tier >= RESTRICTED_TIER:
        return "mesh", "mesh, because restricted data has no leg outside its zone"
    if is_tight and is_private:
        return "mesh", "mesh, because it must be both near and compliant"
    if is_tight:
        return "hybrid", "hybrid, because it must be near while its data may leave: a central venue takes the overflow"
    if is_private:
        return "hybrid", "hybrid, because only its sensitive leg has to stay; what waits and is open may run centrally"
    return "central", "central, because neither nearness nor privacy asks for more"


def _zones(workload: Workload, tier: int, home_zone: str) -> tuple[str, str, str]:
    """Zone, zone of legal control, and the rule that named them. Data that may go anywhere has no home zone."""
    zone = workload.zone or home_zone
    control = zone if tier >= RESTRICTED_TIER else ""
    if workload.zone:
        words = f"zone {zone}, because you named it"
    elif zone:
        words = f"zone {zone}, because {workload.data_class} data stays at home"
    else:
        words = "anywhere, because no rule names a zone"
    return zone, control, f"{words}; owner, operator and keys too, because it is restricted" if control else words


def _kind(workload: Workload) -> tuple[str, str]:
    if workload.shape == "gang":
        return "block", "block in one site, because its units work together or not at all"
    if workload.shape == "service" or workload.latency_ms is not None:
        return "window", "window, because a service needs the same share in all its hours"
    return "divisible", "divisible, because a batch takes any part in any hour"


def _present_price_micros(workload: Workload) -> int:
    """What a unit-hour costs now, down to the tick and inside what the market can hold; 0 when not told."""
    if not workload.present_usd_per_year:
        return 0
    unit_hours = workload.units * workload.hours_per_week * WEEKS_PER_YEAR
    price = workload.present_usd_per_year * MICROS // unit_hours // TICK_MICROS * TICK_MICROS
    return min(max(price, PRICE_MIN_MICROS), PRICE_MAX_MICROS)
