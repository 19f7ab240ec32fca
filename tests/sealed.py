"""Bids under seal, for tests that need one with other terms than a service would let through."""

from __future__ import annotations

from typing import Any

from marketplace import models as m
from marketplace.supply.holders import ensure_window_key, release_demo_shares
from marketplace.supply.sealing import NAMES, Terms, make_seal, open_bids, read_own
from tests.owner import behind_the_triggers


def reseal(bid: m.Bid, **changes: Any) -> m.Bid:
    """Seal a bid again with some terms changed, as if it had been placed so; seal and trail are rewritten."""
    own = read_own(m.Bid.objects.select_related("party", "window").get(pk=bid.pk), party=bid.party)
    terms = Terms(**{name: getattr(own, name) for name in NAMES} | changes)
    public_key = bytes(ensure_window_key(window=own.window, now=own.placed_at).public_key)
    line = m.AuditLine.objects.get(action="place_bid", subject=str(bid.pk))
    with behind_the_triggers():
        m.BidSeal.objects.filter(pk=bid.pk).delete()
        seal = make_seal(own, terms, window_public_key=public_key)
        seal.save(force_insert=True)
        facts = line.facts | {"commitment": bytes(seal.commitment).hex()}
        m.AuditLine.objects.filter(pk=line.pk).update(facts=facts)
    return m.Bid.objects.get(pk=bid.pk)


def own_bid(**where: Any) -> m.Bid:
    """One bid as its own party reads it."""
    bid = m.Bid.objects.select_related("party").get(**where)
    return read_own(bid, party=bid.party)


def opened(window: m.Window) -> list[m.Bid]:
    """The bids of a window in CLEARING, opened by the demo's keyholders."""
    release_demo_shares(window=window, now=window.bidding_closes_at)
    open_bids(window=window, now=window.bidding_closes_at)
    return list(m.Bid.objects.filter(window=window).select_related("node_class__site", "party", "sla"))
