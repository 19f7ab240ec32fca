"""The demo world as values: frozen, JSON-serialisable, money and quantities in integers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

TICK_MICROS = 100  # prices are multiples of this, in micro-USD per unit-hour


@dataclass(frozen=True)
class Source:
    """One bundled source: the file it came from, its licence and the line that credits it."""

    file: str
    licence: str
    attribution: str
    sha256: str


@dataclass(frozen=True)
class Member:
    """One country's time in a zone; dates are ISO days, `valid_until` is the first day outside or None."""

    country: str
    valid_from: str
    valid_until: str | None


@dataclass(frozen=True)
class Zone:
    code: str
    name: str
    source: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Tier:
    code: str
    level: int
    name: str


@dataclass(frozen=True)
class ResourceClass:
    """What one unit is, and what a measured unit is compared with."""

    code: str
    name: str
    unit: str
    ops_per_second: int  # dense 16-bit tensor operations; for CPU-CORE 32-bit vector operations
    memory_bytes: int
    bandwidth_bytes_per_second: int
    reference_price_micros: int  # market median, micro-USD per unit-hour
    source: str


@dataclass(frozen=True)
class SlaPreset:
    code: str
    sla_bps: int


@dataclass(frozen=True)
class Vantage:
    """A probing site; the part of the real university here is simulated."""

    code: str
    name: str
    city: str
    country: str
    lat: float
    lon: float
    note: str


@dataclass(frozen=True)
class Buyer:
    code: str
    name: str
    country: str
    segment: str
    parent_country: str
    note: str


@dataclass(frozen=True)
class NodeClass:
    """Machines of one provider and one resource class proven together; the figures are one unit's."""

    code: str
    resource_class: str
    units: int
    standing: str  # PROVEN | PROBATION | REGISTERED
    ops_per_second: int
    memory_bytes: int
    bandwidth_bytes_per_second: int
    availability_ppm: int
    benchmark_simulated: bool


@dataclass(frozen=True)
class Provider:
    code: str
    name: str
    kind: str  # enterprise | university | prosumer | lab
    admitted: bool
    note: str
    site: str
    city: str
    country: str
    lat: float
    lon: float
    parent_country: str
    operator_country: str
    keys_country: str
    tier: int
    node_classes: tuple[NodeClass, ...]


@dataclass(frozen=True)
class Latency:
    """Round trip p95 from a vantage to a site; `bounded` = estimated by the distance rule, not measured."""

    vantage: str
    site: str
    rtt_ms_p95: int
    basis: str


@dataclass(frozen=True)
class Demand:
    """A buyer's order in a window; zone, control_zone, vantage and latency_ms_max are None where it sets no rule."""

    reference: str
    buyer: str
    kind: str  # divisible | window
    quantity_units: int
    start_slot: int
    end_slot: int
    price_limit_micros: int
    accepted_classes: tuple[str, ...]
    zone: str | None
    control_zone: str | None
    tier_min: int
    vantage: str | None
    latency_ms_max: int | None
    sla_bps: int
    funded: bool
    funded_late: bool  # posted without money, funded before the gate: eligible from then on
    origin: str  # philly | philly-arrival | azure-arrival | story


@dataclass(frozen=True)
class Bid:
    reference: str
    provider: str
    node_class: str
    quantity_units: int
    start_slot: int
    end_slot: int
    price_ask_micros: int
    sla_bps: int


@dataclass(frozen=True)
class Outage:
    """Minutes [start_minute, end_minute) of a window in which `units_down` units of a node class do not answer."""

    node_class: str
    window: str  # main | early
    start_minute: int
    end_minute: int
    units_down: int
    cause: str


@dataclass(frozen=True)
class EarlyWindow:
    """A smaller window before the main one, in which the star has its first confirmed breach."""

    slots: int
    demands: tuple[Demand, ...]
    bids: tuple[Bid, ...]
    outages: tuple[Outage, ...]


@dataclass(frozen=True)
class Story:
    """Who plays the parts that must come out the same at every seed; all fields are codes or references."""

    early_bidder: str
    early_bid: str  # offered before the gate and refused (`demand_first`), then again in its time
    cheap_outsider: str  # the lowest asks of the book, outside the EU and under a parent outside it
    star: str
    star_node_class: str
    star_demand: str  # wins the star for its whole range in the main window; its outage falls inside
    early_star_demand: str  # the same in the early window
    twin: str
    twin_node_class: str
    twin_demand: str  # exactly 24 slots at the unproven twin, with an outage of the same kind inside
    losing_demand: str  # limit below every possible ask
    losing_bid: str  # ask above the limit of every demand that could take it
    own_lab: str  # this machine: its benchmark is measured, not simulated


@dataclass(frozen=True)
class World:
    seed: int
    slots: int
    sources: tuple[Source, ...]
    zones: tuple[Zone, ...]
    tiers: tuple[Tier, ...]
    resource_classes: tuple[ResourceClass, ...]
    sla_presets: tuple[SlaPreset, ...]
    vantages: tuple[Vantage, ...]
    buyers: tuple[Buyer, ...]
    providers: tuple[Provider, ...]
    latency: tuple[Latency, ...]
    demands: tuple[Demand, ...]
    bids: tuple[Bid, ...]
    outages: tuple[Outage, ...]
    early_window: EarlyWindow
    story: Story

    def to_json(self) -> bytes:
        """The world as canonical JSON: sorted keys, UTF-8, one trailing newline."""
        return (json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
