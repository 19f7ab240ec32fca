r"""Which capacity may serve which demand: compliance comes before price.

Bids that look the same to every rule share an attribute signature `A`. Each distinct requirement is judged once against
all A; the set of those it accepts is the demand's mask `S`. Two requirements with the same mask are one S.

    accepts[S, A] = class and country and control and tier and papers and latency and sla and targets
                    and standing and not own parent

Latency is the measured round trip from the demand's vantage to the bid's site; a pair without a measurement fails any
bound. A demand over 24 slots is kept off capacity on probation; other standings than PROVEN and PROBATION never serve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pricing.book import PROBATION_SLOTS_MAX, Book, Flags, Ints
from pricing.lines import Attributes, Requirement, attributes_facts, canonical_json, name_of
from pricing.targets import meets

LONG_STANDINGS = ("PROVEN",)
SHORT_STANDINGS = ("PROVEN", "PROBATION")

Latency = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Signature:
    """What the rules see of a bid. `parent` is set only where some demand of the book has that parent."""

    attributes: Attributes
    parent: str | None

    def facts(self) -> dict[str, object]:
        return {"attributes": attributes_facts(self.attributes), "parent": self.parent}

    @cached_property
    def name(self) -> str:
        return name_of(self.facts())


@dataclass(frozen=True)
class Need:
    """What the rules see of a demand. `parent` is set only where some bid of the book has that parent."""

    requirement: int  # place in book.requirements
    is_long: bool
    parent: str | None


@dataclass(frozen=True, eq=False)
class Eligibility:
    """Signatures in the order of their canonical text, masks in the order of their bits."""

    signatures: tuple[Signature, ...]  # [A]
    needs: tuple[Need, ...]  # [needs]
    mask_of_need: Ints  # [needs] S, or -1
    emptied_by_need: tuple[str | None, ...]  # [needs] the first rule after which nothing was left, where S is -1
    masks: tuple[tuple[int, ...], ...]  # [S] the A accepted, ascending; never empty
    accepts: Flags  # [S, A]
    signature_of_bid: Ints  # [bids] A
    need_of_demand: Ints  # [demands]

    @cached_property
    def mask_of_demand(self) -> Ints:
        """[demands] S, or -1 where no capacity complies."""
        mask: Ints = self.mask_of_need[self.need_of_demand]
        return mask

    def emptied_by(self, demand: int) -> str | None:
        return self.emptied_by_need[int(self.need_of_demand[demand])]


COUNTED_MAX = 1 << 20  # numbers below it are counted, which beats sorting them

RULES: tuple[tuple[str, Callable[[Requirement, Need, Signature, Latency], bool]], ...] = (
    ("class", lambda rule, need, a, _: a.attributes.resource_class in rule.accepted_classes),
    ("country", lambda rule, need, a, _: _allowed(rule.countries, a.attributes.country)),
    ("control", lambda rule, need, a, _: all(
        _allowed(rule.control_countries, country)
        for country in (a.attributes.parent_country, a.attributes.operator_country, a.attributes.keys_country)
    )),
    ("tier", lambda rule, need, a, _: a.attributes.tier >= rule.tier_min),
    ("papers", lambda rule, need, a, _: set(rule.papers) <= set(a.attributes.papers)),
    ("latency", lambda rule, need, a, known: _within_bound(rule, a.attributes.site, known)),
    ("sla", lambda rule, need, a, _: a.attributes.sla_bps >= rule.sla_bps_min),
    ("targets", lambda rule, need, a, _: meets(dict(a.attributes.targets), dict(rule.targets))),
    ("standing", lambda rule, need, a, _: a.attributes.standing in (
        LONG_STANDINGS if need.is_long else SHORT_STANDINGS)),
    ("own_parent", lambda rule, need, a, _: need.parent is None or need.parent != a.parent),
)


def match_lines(book: Book) -> Eligibility:
    """Judge every demand of the book against every bid, each distinct pair of texts once."""
    demands, bids = book.demands, book.bids
    is_long = demands.hours > PROBATION_SLOTS_MAX
    seller = np.isin(demands.parent, bids.parent)
    buyer = np.isin(bids.parent, demands.parent)
    signatures, signature_of_bid = _signatures(book, np.where(buyer, bids.parent, -1))
    keys = np.stack([demands.requirement, is_long.astype(np.int64), np.where(seller, demands.parent, -1)])
    distinct, need_of_demand = _distinct_columns(keys)
    needs = tuple(Need(int(rule), bool(long), None if parent < 0 else book.parents[parent])
                  for rule, long, parent in distinct.T)
    judged = [_judge(book.requirements[need.requirement], need, signatures, book.latency_ms) for need in needs]
    order = {mask: _bits(mask) for mask, _ in judged if mask}
    masks = tuple(sorted(order, key=order.__getitem__))
    position = {mask: index for index, mask in enumerate(masks)}
    accepts = np.zeros((len(masks), len(signatures)), dtype=np.bool_)
    for s, mask in enumerate(masks):
        accepts[s, list(mask)] = True
    return Eligibility(
        signatures=signatures, needs=needs, masks=masks, accepts=accepts,
        mask_of_need=np.array([position.get(mask, -1) for mask, _ in judged], dtype=np.int64),
        emptied_by_need=tuple(rule for _, rule in judged),
        signature_of_bid=signature_of_bid, need_of_demand=need_of_demand,
    )


def _signatures(book: Book, parent: Ints) -> tuple[tuple[Signature, ...], Ints]:
    """The distinct signatures in the order of their canonical text, and the one of each bid."""
    distinct, place = _distinct_columns(np.stack([book.bids.attributes, parent]))
    found = [Signature(book.attributes[known], None if p < 0 else book.parents[p]) for known, p in distinct.T]
    order = sorted(range(len(found)), key=lambda index: canonical_json(found[index].facts()))
    new_place = np.empty(len(found), dtype=np.int64)
    new_place[order] = np.arange(len(found))
    return tuple(found[index] for index in order), new_place[place]


def _distinct_columns(keys: Ints) -> tuple[Ints, Ints]:
    """The distinct columns of small numbers from -1 up, sorted, and the place of each column among them."""
    code = np.zeros(keys.shape[1], dtype=np.int64)
    for row in keys:
        code = code * (int(row.max(initial=-1)) + 2) + row + 1
    codes, place = distinct_codes(code)
    example = np.zeros(len(codes), dtype=np.int64)
    example[place] = np.arange(len(code))
    distinct: Ints = keys[:, example]
    return distinct, place


def distinct_codes(code: Ints) -> tuple[Ints, Ints]:
    """The distinct numbers, none negative, sorted, and the place of each number among them."""
    size = int(code.max(initial=0)) + 1
    if size > COUNTED_MAX:
        codes, place = np.unique(code, return_inverse=True)
        return codes, place.astype(np.int64)
    is_there = np.zeros(size, dtype=np.bool_)
    is_there[code] = True
    return np.flatnonzero(is_there), (np.cumsum(is_there) - 1)[code]


def _judge(
    rule: Requirement, need: Need, signatures: tuple[Signature, ...], latency: Latency
) -> tuple[tuple[int, ...], str | None]:
    """The accepted A; where there are none, the rule after which none was left (the first rule on an empty book)."""
    left = list(range(len(signatures)))
    for name, accepts in RULES:
        left = [index for index in left if accepts(rule, need, signatures[index], latency)]
        if not left:
            return (), name
    return tuple(left), None


def _bits(mask: tuple[int, ...]) -> int:
    return sum(1 << index for index in mask)


def _allowed(countries: tuple[str, ...] | None, country: str) -> bool:
    return countries is None or country in countries


def _within_bound(rule: Requirement, site: str, latency: Latency) -> bool:
    if rule.latency_ms_max is None or rule.vantage is None:
        return rule.latency_ms_max is None
    measured = latency.get((rule.vantage, site))
    return measured is not None and measured <= rule.latency_ms_max
