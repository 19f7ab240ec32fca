"""Payout: netted settlement of judged leases on chain, then the money to the providers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Q, Sum

from ledger.chart import Origin
from ledger.faults import point
from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.money import USDC6, Money
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.selectors import balance
from ledger.services import Posting, cover_posting, settle_postings
from marketplace.catalogue.models import Window
from marketplace.catalogue.services import move_window
from marketplace.delivery.evidence_models import DeliveryCase
from marketplace.delivery.services import SILENCE_HOURS
from marketplace.demand.funding import origin_of
from marketplace.escrow.backup_models import StepIn, given_back_micros
from marketplace.escrow.models import Lease
from marketplace.escrow.wash import mark_suspects
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.payout import claims
from marketplace.payout.banks import waits_for_bank
from marketplace.payout.models import Payout, Settlement, SettlementLine
from marketplace.payout.refusals import refused_calls
from marketplace.sla.models import Credit, EarlyCredit
from marketplace.supply.models import NodeClass

NOTHING_LEFT = "nothing is payable"  # the contract's words
HOLDBACK_DAYS = 30  # after a class's last lease; the contract's own delay
UNDER_WAY = ("returning", "locking")  # the lease of such a backup is still to come
OVER_STATES = ("refused", "settled")
CALL_BUYERS_MAX, CALL_CLASSES_MAX = 64, 512  # the contract's bounds
CREDIT_PERIOD = {
    "availability": "{credit.period}:{credit.step_bps}", "performance": "check:{credit.period}",
    "target": "target:{credit.period}", "egress": "egress:{credit.period}",
}  # fmt: skip
CREDIT_WORDS = {
    "availability": "broke its SLA", "performance": "fell short of its proven speed", "target": "broke an SLA target",
    "egress": "let pinned data leave",
}  # fmt: skip


@dataclass(slots=True)
class _Epoch:
    """Leases that one settle call can carry: within the contract's bounds, and within one hour's credits."""

    hour_micros: int
    leases: list[Lease] = field(default_factory=list)
    buyers: set[UUID] = field(default_factory=set)
    classes: set[UUID] = field(default_factory=set)
    gross_micros: int = 0

    def has_room_for(self, lease: Lease) -> bool:
        return not self.leases or (
            len(self.buyers | {lease.buyer_id}) <= CALL_BUYERS_MAX
            and len(self.classes | {lease.node_class_id}) <= CALL_CLASSES_MAX
            and self.gross_micros + _earned_micros(lease) <= self.hour_micros
        )

    def add(self, lease: Lease) -> None:
        self.leases.append(lease)
        self.buyers.add(lease.buyer_id)
        self.classes.add(lease.node_class_id)
        self.gross_micros += _earned_micros(lease)


@transaction.atomic
def settle_window(*, window: Window, now: datetime) -> int:
    """Net the judged leases of a window into settle calls with consecutive epochs; returns how many leases.

    Earned minutes go to the provider less the fee (all of it to the holdback before proof); unpaid minutes and credits
    go back to the buyer. Books and chain move together when each call is final. Leases in dispute hold up no other:
    they are settled by later epochs, once they are decided and judged. As long as a refused call is not taken back
    nothing follows it: the contract would refuse every later epoch too.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "DELIVERING":
        return 0
    leases = list(
        Lease.objects.select_for_update(of=("self",))
        .filter(window=locked, settlement_line=None).exclude(state="refused")
        .select_related("verdict__credit", "node_class", "buyer", "demand").prefetch_related("early_credits")
        .order_by("buyer__slug", "node_class__chain_class", "id")
    )  # fmt: skip
    if _waits(locked, leases, now) or refused_calls():
        return 0
    leases = [lease for lease in leases if lease.state == "judged"]
    if not leases:
        return 0
    suspects = mark_suspects(leases=leases, now=now)
    epoch_no = last_epoch()
    for epoch in _epochs(leases):
        epoch_no += 1
        _settle_epoch(locked, epoch_no, epoch.leases, suspects, now)
    point("payout.settle.before_commit")
    return len(leases)


def _waits(window: Window, leases: Sequence[Lease], now: datetime) -> bool:
    """Whether a lease is still to be judged that is not in dispute.

    A day after the window whoever has not spoken is not waited for: what is open then waits for evidence or a decision.
    """
    waiting = {lease.pk for lease in leases if lease.state != "judged"}
    if not waiting or now >= window.ends_at + timedelta(hours=SILENCE_HOURS):
        return False
    disputed = DeliveryCase.objects.filter(lease__in=waiting, state="OPEN").values_list("lease", flat=True)
    return bool(waiting - set(disputed))


@transaction.atomic
def post_credits(*, window: Window, now: datetime) -> int:
    """Send the credits of running leases back to their buyers at once, by a settle call of their own; returns how many.

    The money is free for the buyer when the call is final. What a lease was sent is taken off its last settlement.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    waiting = EarlyCredit.objects.filter(lease__window=locked, intent_key="")
    due = list(waiting.select_related("lease__buyer", "lease__node_class").order_by("lease__buyer__slug", "id"))
    if locked.state != "DELIVERING" or not due or refused_calls():
        return 0
    epoch_no = last_epoch()
    by_lease: dict[Lease, list[EarlyCredit]] = defaultdict(list)
    for credit in due:
        by_lease[credit.lease].append(credit)
    for epoch in _epochs(by_lease):
        epoch_no += 1
        _credit_epoch(locked, epoch_no, [row for lease in epoch.leases for row in by_lease[lease]], now)
    return len(due)


def last_epoch() -> int:
    """Return what the next epoch follows: the last one asked for, or the generation that the last claim began.

    Asked before what was claimed is read. A claim that is seen only then makes a call too old, which the contract
    refuses; the other way round a call would be new enough and not know of it.
    """
    asked_for = Settlement.objects.filter(refused_at=None).aggregate(top=Max("epoch"))["top"] or 0
    return max(asked_for, claims.generation() << claims.GENERATION_AT)


def intent_key(epoch: int) -> str:
    """Return the key of the next call for an epoch: one that was refused leaves its own behind."""
    attempts = Settlement.objects.filter(epoch=epoch).count()
    return f"settle:{epoch}:{attempts}" if attempts else f"settle:{epoch}"


def _credit_epoch(window: Window, epoch: int, credits: Sequence[EarlyCredit], now: datetime) -> None:
    buyers: Counter[str] = Counter()
    classes: Counter[int] = Counter()
    for credit in credits:
        buyers[credit.lease.buyer.chain_address] += credit.amount_micros
        classes[credit.lease.node_class.chain_class] += credit.amount_micros
    indexed = sorted((chain().call("escrow", "account_of", address)[0], back) for address, back in buyers.items())
    owed = claims.owed_by_class()
    settlement = Settlement.objects.create(
        id=uuid7(now), window=window, epoch=epoch, intent_key=intent_key(epoch), root=claims.tree_of(owed).root,
        owed=owed, made_at=now, earned_micros=0, refunded_micros=sum(buyers.values()), fees_micros=0,
    )  # fmt: skip
    sender.submit(
        key=settlement.intent_key, role="operator", contract="escrow", function="settle",
        args=[epoch, [index << 128 | back for index, back in indexed],
              [number << 192 | back for number, back in sorted(classes.items())], 0, settlement.root,
              bytes(window.clearing.bundle_hash)],
        plan=[posting for credit in credits for posting in _credit_postings(credit, window)], now=now,
    )  # fmt: skip
    EarlyCredit.objects.filter(pk__in=[credit.pk for credit in credits]).update(intent_key=settlement.intent_key)
    record(
        actor="market", action="post_credits", subject=window.name, reason=f"epoch {epoch}", now=now,
        credits=len(credits), refunded_micros=settlement.refunded_micros,
    )  # fmt: skip


def _credit_postings(credit: EarlyCredit, window: Window) -> list[Posting]:
    lease = credit.lease
    return settle_postings(
        lease=lease.pk, buyer=lease.buyer_id, window=window.pk, provider=lease.provider_id,
        node_class=lease.node_class_id, earned=0, holdback=0, fee=0, returned=0, credit=credit.amount_micros,
        period=period_of(credit),
    )  # fmt: skip


def period_of(credit: EarlyCredit) -> str:
    """Return the period of its lease under which the books settle a credit at once."""
    return CREDIT_PERIOD[credit.kind].format(credit=credit)


@transaction.atomic
def confirm_credits(*, now: datetime) -> int:
    """Mark credits of running leases whose settle call is final, and tell their buyers; returns how many."""
    keys = list(EarlyCredit.objects.filter(posted_at=None).exclude(intent_key="").values_list("intent_key", flat=True))
    final = list(ChainIntent.objects.filter(key__in=keys, state="final").values_list("key", flat=True))
    posted = list(EarlyCredit.objects.filter(intent_key__in=final, posted_at=None).select_related("lease__demand"))
    for credit in posted:
        tell_parties(
            parties=[credit.lease.buyer_id], about=f"credit:{credit.pk}", code="credit_posted", now=now,
            sentence=f"{credit.lease.demand.reference} {CREDIT_WORDS[credit.kind]}: its credit is back in your "
            "account.",
        )  # fmt: skip
    return EarlyCredit.objects.filter(pk__in=[credit.pk for credit in posted]).update(posted_at=now)


@transaction.atomic
def confirm_settlements(*, window: Window, now: datetime) -> int:
    """Settle the leases whose settle call is final, and the window when all of its leases are; returns how many."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "DELIVERING":
        return 0
    rows = list(locked.settlements.filter(refused_at=None))
    keys = [row.intent_key for row in rows]
    final = set(ChainIntent.objects.filter(key__in=keys, state="final").values_list("key", flat=True))
    fresh = [row.pk for row in rows if row.final_at is None and row.intent_key in final]
    Settlement.objects.filter(pk__in=fresh).update(final_at=now)
    credits = Credit.objects.filter(source="escrow", posted_at=None)
    credits.filter(verdict__lease__settlement_line__settlement__in=fresh).update(posted_at=now)
    count = Lease.objects.filter(settlement_line__settlement__in=fresh).update(state="settled")
    unsettled = Lease.objects.filter(window=locked, settlement_line=None).exclude(state="refused").exists()
    unsettled = unsettled or StepIn.objects.filter(lease__window=locked, state__in=UNDER_WAY).exists()
    if not unsettled and len(final) == len(rows):
        leases = Lease.objects.filter(window=locked, state="settled").count()
        move_window(window=locked, to_state="SETTLED", reason="every lease settled on chain", now=now, leases=leases)
        return count or 1
    return count


@transaction.atomic
def pay_window(*, window: Window, now: datetime) -> int:
    """Ask the chain to pay out what each node class earned of the settled leases of a window; returns how many payouts.

    A class whose leases are settled in parts is paid in as many.

    Earnings of a provider whose bank account is not ready stay in escrow; a later turn pays them.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state not in ("DELIVERING", "SETTLED"):
        return 0
    earned = _unpaid(locked)
    numbers = dict(NodeClass.objects.values_list("pk", "chain_class")) if earned else {}
    payouts = [
        Payout(
            id=uuid7(now), node_class_id=key, window=locked, amount_micros=micros, part=part, made_at=now,
            intent_key=f"payout:{locked.number}:{numbers[key]}" + (f":{part}" if part else ""),
        )
        for key, micros, part in earned
    ]  # fmt: skip
    Payout.objects.bulk_create(payouts)
    for payout in payouts:
        sender.submit(
            key=payout.intent_key, role="custody", contract="escrow", function="withdraw_for",
            args=[numbers[payout.node_class_id]], now=now,
        )  # fmt: skip
    if payouts:
        record(actor="market", action="pay_window", subject=locked.name, reason="settled and final", now=now,
               payouts=len(payouts), total_micros=sum(p.amount_micros for p in payouts))  # fmt: skip
    return len(payouts)


def _unpaid(window: Window) -> list[tuple[UUID, int, int]]:
    """Return what each node class earned in a window, final on chain, that nobody has asked for: class, amount, part.

    Those that wait for a bank are left out.
    """
    rows = list(
        SettlementLine.objects.filter(settlement__window=window, settlement__final_at__isnull=False)
        .values("lease__node_class", "lease__provider").annotate(total=Sum("payable_micros"))
        .filter(total__gt=0).order_by("lease__node_class__chain_class")
    )  # fmt: skip
    asked = {
        row["node_class"]: (int(row["total"]), int(row["parts"]))
        for row in window.payouts.order_by().values("node_class")
        .annotate(total=Sum("amount_micros"), parts=Count("pk"))
    }  # fmt: skip
    found = []
    for row in rows:
        before, parts = asked.get(row["lease__node_class"], (0, 0))
        if row["total"] > before:
            found.append((row["lease__node_class"], row["lease__provider"], int(row["total"]) - before, parts))
    waiting = waits_for_bank([provider for _, provider, *_ in found])
    return [(key, micros, part) for key, provider, micros, part in found if provider not in waiting]


@transaction.atomic
def confirm_payouts(*, now: datetime) -> int:
    """Mark payouts whose transaction is final, and those whose money went with an earlier one of the same class.

    Escrow pays all that is payable of a class at once, so a second call for it may find nothing left.
    """
    open_keys = list(Payout.objects.filter(final_at=None).values_list("intent_key", flat=True))
    went = Q(state="final") | Q(state="reverted", revert_reason__contains=NOTHING_LEFT)
    keys = ChainIntent.objects.filter(went, key__in=open_keys).values_list("key", flat=True)
    return Payout.objects.filter(intent_key__in=list(keys)).update(final_at=now)


@transaction.atomic
def release_holdbacks(*, now: datetime) -> int:
    """Ask the chain to release what was held back from classes that have proven themselves since, or that have had no
    lease for 30 days."""
    released = 0
    for node_class in NodeClass.objects.select_related("standing").order_by("chain_class"):
        held = balance(code="provider.holdback", party=node_class.party_id, scope=node_class.pk).minor
        if held == 0 or not (node_class.standing.state == "PROVEN" or _is_over(node_class, now)):
            continue
        key = f"release:{node_class.chain_class}:{_releases(node_class)}"
        if not ChainIntent.objects.filter(key=key).exists():
            sender.submit(
                key=key, role="custody", contract="escrow", function="release_holdback", args=[node_class.chain_class],
                now=now,
            )  # fmt: skip
            released += 1
    return released


def _is_over(node_class: NodeClass, now: datetime) -> bool:
    """Whether 30 days have passed since the last lease of a class and its settlement, by the contract's own count."""
    if Lease.objects.filter(node_class=node_class).exclude(state__in=OVER_STATES).exists():
        return False
    since = int(chain().call("escrow", "held_since", node_class.chain_class))
    return since > 0 and now.timestamp() >= since + HOLDBACK_DAYS * 86_400


def _releases(node_class: NodeClass) -> int:
    prefix = f"release:{node_class.chain_class}:"
    return ChainIntent.objects.filter(key__startswith=prefix, state="final").count()


def _epochs(leases: Iterable[Lease]) -> list[_Epoch]:
    hour_micros = int(chain().call("escrow", "settle_limit"))
    epochs = [_Epoch(hour_micros)]
    for lease in leases:
        if not epochs[-1].has_room_for(lease):
            epochs.append(_Epoch(hour_micros))
        epochs[-1].add(lease)
    return epochs


def _settle_epoch(
    window: Window, epoch: int, leases: Sequence[Lease], suspects: Set[object], now: datetime
) -> None:
    lines = _settlement_lines(leases, claims.uncovered_by_class())
    words = _chain_words(lines)
    owed = claims.owed_by_class()  # these leases are judged: they are in it
    root = claims.tree_of(owed).root
    settlement = Settlement.objects.create(
        id=uuid7(now), window=window, epoch=epoch, intent_key=intent_key(epoch), root=root, owed=owed, made_at=now,
        earned_micros=sum(line.earned_micros for line in lines),
        refunded_micros=sum(
            line.returned_micros + line.credit_micros - line.sent_before_micros for line in lines
        ),
        fees_micros=sum(line.fee_micros for line in lines),
    )  # fmt: skip
    for line in lines:
        line.settlement = settlement
    SettlementLine.objects.bulk_create(lines)
    sender.submit(
        key=settlement.intent_key, role="operator", contract="escrow", function="settle",
        args=[epoch, words.buyers, words.classes, sum(line.covered_micros for line in lines), root,
              bytes(window.clearing.bundle_hash)],
        plan=[posting for line in lines for posting in _postings(line, window, suspects)], now=now,
    )  # fmt: skip
    record(
        actor="market", action="settle", subject=window.name, reason=f"epoch {epoch}", now=now, leases=len(lines),
        earned_micros=settlement.earned_micros, refunded_micros=settlement.refunded_micros,
    )  # fmt: skip


def _settlement_lines(leases: Sequence[Lease], uncovered: dict[int, int]) -> list[SettlementLine]:
    """Split each lease's fee. The contract takes its fee per node class, so that fee is shared out exactly here.

    What a class has claimed meanwhile (`uncovered`, micro-USD by its number on chain) is covered and not paid again.
    """
    by_class: dict[UUID, list[Lease]] = defaultdict(list)
    for lease in leases:
        by_class[lease.node_class_id].append(lease)
    lines = []
    for members in by_class.values():
        earned = [_earned_micros(lease) for lease in members]
        covers = _covers(earned, uncovered.get(members[0].node_class.chain_class, 0))
        unpaid = [gross - cover for gross, cover in zip(earned, covers, strict=True)]
        fee = Money(sum(unpaid) * settings.PLATFORM_FEE_BPS // 10_000, USDC6)
        fees = [part.minor for part in fee.split(unpaid)] if sum(unpaid) else [0] * len(members)
        for lease, lease_earned, cover, lease_fee in zip(members, earned, covers, fees, strict=True):
            net = lease_earned - cover - lease_fee
            lines.append(
                SettlementLine(
                    lease=lease, earned_micros=lease_earned, covered_micros=cover, fee_micros=lease_fee,
                    payable_micros=net if lease.is_armed else 0, holdback_micros=0 if lease.is_armed else net,
                    returned_micros=lease.verdict.unpaid_micros, credit_micros=_escrow_credit(lease),
                    credited_before_micros=sum(row.amount_micros for row in lease.early_credits.all()),
                    given_back_micros=given_back_micros(lease),
                )
            )  # fmt: skip
    return lines


def _covers(earned: Sequence[int], claimed: int) -> list[int]:
    """Share what a class has claimed over its leases, in order, up to what each earned."""
    covers = []
    for gross in earned:
        covers.append(min(gross, claimed))
        claimed -= covers[-1]
    return covers


def _earned_micros(lease: Lease) -> int:
    """What a judged lease credits to its class at most: less where the class has claimed. Nothing while it runs."""
    return lease.verdict.earned_micros - _escrow_credit(lease) if hasattr(lease, "verdict") else 0


def _escrow_credit(lease: Lease) -> int:
    credit = getattr(lease.verdict, "credit", None)
    return credit.amount_micros if credit and credit.source == "escrow" else 0


@dataclass(frozen=True, slots=True)
class _Words:
    """Packed lines as `escrow.settle` takes them."""

    buyers: list[int]
    classes: list[int]


def _chain_words(lines: Sequence[SettlementLine]) -> _Words:
    debits: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    classes: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        refund = line.returned_micros + line.credit_micros - line.sent_before_micros
        debits[line.lease.buyer.chain_address][0] += line.earned_micros
        debits[line.lease.buyer.chain_address][1] += refund
        sums = classes[line.lease.node_class.chain_class]
        sums[0] += line.earned_micros - line.covered_micros
        sums[1] += line.holdback_micros
        sums[2] += refund
    indexed = sorted((chain().call("escrow", "account_of", address)[0], pair) for address, pair in debits.items())
    return _Words(
        buyers=[index << 128 | debit << 64 | refund for index, (debit, refund) in indexed],
        classes=[n << 192 | gross << 128 | held << 64 | back for n, (gross, held, back) in sorted(classes.items())],
    )


def _postings(line: SettlementLine, window: Window, suspects: Set[object]) -> list:
    lease = line.lease
    origin = Origin.SELF_DEALING_SUSPECT if lease.pk in suspects else origin_of(lease.demand)
    postings = settle_postings(
        lease=lease.pk, buyer=lease.buyer_id, window=window.pk, provider=lease.provider_id,
        node_class=lease.node_class_id, earned=line.payable_micros, holdback=line.holdback_micros, fee=line.fee_micros,
        # What was sent back at once may be more than the credit of a lease that then delivered nothing: of its refund.
        returned=line.returned_micros - line.given_back_micros
        - max(0, line.credited_before_micros - line.credit_micros),
        credit=max(0, line.credit_micros - line.credited_before_micros), origin=origin,
    )  # fmt: skip
    if line.covered_micros:
        postings.append(
            cover_posting(key=lease.pk, buyer=lease.buyer_id, window=window.pk, amount=line.covered_micros,
                          origin=origin)
        )  # fmt: skip
    return postings
