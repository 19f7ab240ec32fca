"""Figures that tell whether a drawn book looks like a market: rules met step by step, tightness, shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.demo.world import Bid, Demand, NodeClass, Provider, World


@dataclass(frozen=True)
class Shape:
    """Counts of the main window; each `with_*` is the share of funded demands with a bid left after that rule."""

    seed: int
    demands: int
    funded: int
    bids: int
    bidders: int
    with_class: float
    with_rules: float  # and zone, control, tier, SLA, standing
    with_latency: float
    with_price: float
    demanded_unit_hours: int
    offered_unit_hours: int
    outages: int

    @property
    def tightness(self) -> float:
        """Offered over demanded unit-hours."""
        return self.offered_unit_hours / self.demanded_unit_hours


@dataclass(frozen=True)
class _Offer:
    bid: Bid
    provider: Provider
    node_class: NodeClass


def shape_of(world: World) -> Shape:
    """Figures of the main window of one world."""
    offers = offers_of(world, world.bids)
    members = current_members(world)
    rtt = {(row.vantage, row.site): row.rtt_ms_p95 for row in world.latency}
    funded = [d for d in world.demands if d.funded]
    left = (0, 0, 0, 0)
    for demand in funded:
        matched = [o for o in offers if o.node_class.resource_class in demand.accepted_classes]
        steps = [matched]
        steps.append([o for o in steps[-1] if rules_met(demand, o.bid, o.provider, o.node_class, members)])
        steps.append([o for o in steps[-1] if near_enough(demand, o.provider, rtt)])
        steps.append([o for o in steps[-1] if o.bid.price_ask_micros <= demand.price_limit_micros])
        left = (left[0] + bool(steps[0]), left[1] + bool(steps[1]), left[2] + bool(steps[2]), left[3] + bool(steps[3]))
    return Shape(
        seed=world.seed, demands=len(world.demands), funded=len(funded), bids=len(offers),
        bidders=len({o.provider.code for o in offers}), with_class=left[0] / len(funded),
        with_rules=left[1] / len(funded), with_latency=left[2] / len(funded), with_price=left[3] / len(funded),
        demanded_unit_hours=sum(_unit_hours(d) for d in funded),
        offered_unit_hours=sum(_unit_hours(o.bid) for o in offers), outages=len(world.outages))


def offers_of(world: World, bids: Sequence[Bid]) -> list[_Offer]:
    """Bids with their provider and node class."""
    owner = {n.code: (p, n) for p in world.providers for n in p.node_classes}
    return [_Offer(bid, *owner[bid.node_class]) for bid in bids]


def current_members(world: World) -> dict[str, frozenset[str]]:
    """Countries of each zone that have not left it."""
    return {z.code: frozenset(m.country for m in z.members if m.valid_until is None) for z in world.zones}


def rules_met(demand: Demand, bid: Bid, provider: Provider, node_class: NodeClass,
              members: dict[str, frozenset[str]]) -> bool:
    """Whether residence, control, tier, SLA and standing allow the pair; class, latency and price are not looked at."""
    control = (provider.parent_country, provider.operator_country, provider.keys_country)
    return (
        (demand.zone is None or provider.country in members[demand.zone])
        and (demand.control_zone is None or all(c in members[demand.control_zone] for c in control))
        and provider.tier >= demand.tier_min
        and bid.sla_bps >= demand.sla_bps
        and (node_class.standing == "PROVEN" or demand.end_slot - demand.start_slot <= 24))


def near_enough(demand: Demand, provider: Provider, rtt: dict[tuple[str, str], int]) -> bool:
    """Whether the site meets the demand's bound from its vantage; an unknown pair never does."""
    if demand.vantage is None or demand.latency_ms_max is None:
        return True
    return rtt.get((demand.vantage, provider.site), demand.latency_ms_max + 1) <= demand.latency_ms_max


def _unit_hours(line: Demand | Bid) -> int:
    return line.quantity_units * (line.end_slot - line.start_slot)


def describe(shapes: Sequence[Shape]) -> str:
    """One line per world, under the shares that a book of thirty providers should show."""
    lines = ["seed demands funded bids bidders  class  rules latency price  offered/demanded outages",
             "                        expected   1.00 .96-1.00 .86-.95 .85-.90    0.7-1.5"]
    for s in shapes:
        counts = f"{s.seed:>4} {s.demands:>7} {s.funded:>6} {s.bids:>4} {s.bidders:>7}"
        shares = f"  {s.with_class:.3f}  {s.with_rules:.3f}  {s.with_latency:.3f}  {s.with_price:.3f}"
        lines.append(f"{counts}{shares}  {s.tightness:>15.2f} {s.outages:>7}")
    return "\n".join(lines)
