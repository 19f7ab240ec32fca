"""The base world as read from its folder: the same for every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marketplace.demo.world import (
    Buyer,
    Latency,
    Member,
    NodeClass,
    Provider,
    ResourceClass,
    SlaPreset,
    Source,
    Tier,
    Vantage,
    Zone,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Price:
    """Quotes of one resource class, micro-USD per unit-hour."""

    lowest_micros: int
    median_micros: int
    hyperscaler_micros: int


@dataclass(frozen=True)
class Base:
    """Everything that no seed changes, and the trace lines the seeds draw from."""

    sources: tuple[Source, ...]
    zones: tuple[Zone, ...]
    tiers: tuple[Tier, ...]
    resource_classes: tuple[ResourceClass, ...]
    sla_presets: tuple[SlaPreset, ...]
    vantages: tuple[Vantage, ...]
    buyers: tuple[Buyer, ...]
    providers: tuple[Provider, ...]
    latency: tuple[Latency, ...]
    prices: Mapping[str, Price]
    gangs: tuple[Row, ...]  # minute of the week, hours, units, vc; smallest unit-hours first
    arrivals: Mapping[str, np.ndarray]  # minutes of the week per origin
    idle_ppm: np.ndarray
    fit: Mapping[str, Any]

    def provider(self, name: str) -> Provider:
        return next(provider for provider in self.providers if provider.name == name)


def read_base(folder: Path) -> Base:
    """The base world under `folder`; FileNotFoundError names what is missing."""
    catalogue = _document(folder, "catalogue.json")
    arrivals = pd.read_csv(folder / "arrivals.csv")
    return Base(
        sources=tuple(Source(**row) for row in _document(folder, "sources.json")),
        zones=tuple(Zone(**row | {"members": tuple(Member(**m) for m in row["members"])})
                    for row in _document(folder, "zones.json")),
        tiers=tuple(Tier(**row) for row in catalogue["tiers"]),
        resource_classes=tuple(ResourceClass(**row) for row in catalogue["resource_classes"]),
        sla_presets=tuple(SlaPreset(**row) for row in catalogue["sla_presets"]),
        vantages=tuple(Vantage(**row) for row in rows(folder, "vantages.csv")),
        buyers=tuple(Buyer(**row) for row in rows(folder, "buyers.csv")),
        providers=_providers(folder),
        latency=tuple(Latency(**row) for row in rows(folder, "latency.csv")),
        prices={row["resource_class"]: Price(row["lowest_micros"], row["median_micros"], row["hyperscaler_micros"])
                for row in rows(folder, "prices.csv")},
        gangs=tuple(rows(folder, "gangs.csv")),
        arrivals={str(origin): part.minute.to_numpy() for origin, part in arrivals.groupby("origin")},
        idle_ppm=pd.read_csv(folder / "idle_share.csv").idle_ppm.to_numpy(),
        fit=_document(folder, "fit.json"),
    )


def rows(folder: Path, name: str) -> list[Row]:
    """Rows of a table with plain Python values; "NA" stays text."""
    table = pd.read_csv(folder / name, keep_default_na=False)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def _providers(folder: Path) -> tuple[Provider, ...]:
    classes: dict[str, list[NodeClass]] = {}
    for row in rows(folder, "node_classes.csv"):
        owner = row.pop("provider")
        classes.setdefault(owner, []).append(NodeClass(**row))
    return tuple(Provider(**row, node_classes=tuple(classes[row["code"]])) for row in rows(folder, "providers.csv"))
