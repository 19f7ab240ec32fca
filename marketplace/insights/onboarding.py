"""The provider's checklist: what is done, what is missing, who must act, and the next best step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger.models import Account, BankAccount
from ledger.services import USDC6_LEDGER
from marketplace.escrow.selectors import leases_sold_by
from marketplace.parties.models import Party
from marketplace.supply.models import NodeClass
from marketplace.supply.selectors import bids_of, live_benchmark, node_classes_of, sites_of


@dataclass(frozen=True)
class Item:
    """One line of the checklist. `command` is what to run where the machines stand, if anything."""

    title: str
    sentence: str
    is_done: bool
    is_next: bool = False
    link: str = ""
    command: str = ""


@dataclass(frozen=True)
class Checklist:
    """The items in order, and how many are done."""

    items: list[Item]

    @property
    def done(self) -> int:
        return sum(item.is_done for item in self.items)


@dataclass(frozen=True)
class ProviderMoney:
    """A provider's money in micro-USD: earned and not yet paid out, held back, and bonded as stake."""

    payable_micros: int
    holdback_micros: int
    stake_micros: int


def provider_money(party: Party) -> ProviderMoney:
    """Return what is payable, held back and staked over all node classes of a provider."""
    sums = {"provider.payable": 0, "provider.holdback": 0, "stake.mirror": 0}
    for account in Account.objects.filter(ledger_id=USDC6_LEDGER, party=party.pk, code__in=list(sums)):
        sums[account.code] += account.balance_minor
    return ProviderMoney(*sums.values())


def checklist_of(party: Party, money: ProviderMoney, now: datetime) -> Checklist:
    """Return the checklist of a provider from live rows; the first item that is not done is the next step."""
    classes, sites = list(node_classes_of(party)), list(sites_of(party))
    items = [*_items_of_party(party, sites, classes), *_items_of_proof(party, classes, money.stake_micros, now)]
    following = next((i for i, item in enumerate(items) if not item.is_done), None)
    return Checklist([
        Item(i.title, i.sentence, i.is_done, number == following, i.link, i.command) for number, i in enumerate(items)
    ])  # fmt: skip


def _items_of_party(party: Party, sites: list, classes: list[NodeClass]) -> list[Item]:
    machines = ", ".join(f"{c.resource_class_id} × {c.units}" for c in classes)
    tiers = ", ".join(sorted({f"T{c.tier}" for c in classes}))
    return [
        Item("Organisation registered", f"{party.name}, {party.country}; parent in {party.parent_country}.", True),
        Item("Site with its jurisdictions", ", ".join(f"{s.city} ({s.country})" for s in sites)
             or "Name where the machines stand, who runs them and who holds the keys.", bool(sites)),
        Item("Node class enrolled", machines or "Enrol the machines that are proven together.", bool(classes),
             link="onboarding:classes", command="python -m marketplace.agent enrol --token TOKEN"),
        Item("Controls for a tier", f"Today: {tiers}." if tiers else "The tier follows from your evidence.",
             bool(classes), link="onboarding:classes"),
        _item_of_payouts(party),
    ]  # fmt: skip


def _item_of_payouts(party: Party) -> Item:
    account = BankAccount.objects.filter(party=party.pk, is_chosen=True).first()
    if account is None:
        return Item(
            "Payout address", "Payouts go to your wallet on chain; you can choose a bank account instead."
            if party.chain_address else "It is set when your first node class goes on chain, or choose a bank account.",
            bool(party.chain_address), link="onboarding:payouts",
        )  # fmt: skip
    is_ready = account.state == BankAccount.State.READY
    return Item(
        "Payout to a bank account", "Payouts go to your bank account." if is_ready
        else "Payouts wait in escrow until the card processor has your details.", is_ready, link="onboarding:payouts",
    )  # fmt: skip


def _items_of_proof(party: Party, classes: list[NodeClass], stake: int, now: datetime) -> list[Item]:
    challenged = [c for c in classes if c.standing.challenged_at or c.standing.state == "PROVEN"]
    proven = [c for c in classes if c.standing.state == "PROVEN"]
    ends = [b.valid_until for c in proven if (b := live_benchmark(c, now))]
    return [
        Item("Stake bonded", "Your bond; it cannot be slashed before your benchmark is proven." if stake
             else "Bond the entry stake: 72 unit-hours at the class's reference price.", stake > 0,
             link="onboarding:arming"),
        Item("Challenge passed", f"{len(challenged)} of {len(classes)} node classes attested by a quorum of verifiers."
             if classes else "A benchmark under the verifiers' clocks admits you to probation.", bool(challenged),
             link="onboarding:classes",
             command="python -m marketplace.agent benchmark --market --preset full --listen HOST:PORT"),
        Item("Baseline proven", f"Proven until {min(ends):%d %b %Y}." if ends
             else "After 14 days of passed re-checks the baseline counts: all orders, nothing held back any more.",
             bool(proven), link="onboarding:arming"),
        Item("First bid", "Sealed bids of yours are read by your own seats only.", bids_of(party).exists(),
             link="onboarding:bids"),
        Item("First lease", "Awards become leases once their money is locked on chain.", leases_sold_by(party).exists(),
             link="onboarding:leases"),
    ]  # fmt: skip
