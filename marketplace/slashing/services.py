"""Slashing: held back until proven. The first breach warns, later ones take stake, and the harmed buyer comes first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from contracts.eip712 import Verdict as VerdictStruct
from ledger.ids import uuid7
from ledger.models import ChainEvent, ChainIntent
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.selectors import balance
from marketplace.catalogue.models import Window
from marketplace.errors import SlashHeldBack, TooLate
from marketplace.escrow.models import Lease
from marketplace.governance.services import flag_is_on, record, require_flag
from marketplace.sla.models import Credit, Verdict
from marketplace.slashing.models import Forfeit, SlashCase
from marketplace.slashing.trailing import Trailing, trailing_of, unproven_to_judge, waits_for_others
from marketplace.supply.onchain import sign_by_panel
from marketplace.supply.standing import degrade
from pricing.penalties import WARNING, slash_kind, slash_micros

DISPUTE_HOURS = 72
VERDICT_VALID_DAYS = 13  # the contract lapses a request after 14 days
BREACH_MEMORY_DAYS = 90
REQUEST_DAYS_MAX = 17  # after the breach; the contract, which has the same, would revert a later request
PAUSED = "stake: slashing is paused"  # the contract's words
TRAILING_NONCE_AT = 24  # bits: above the place of the judged lease stands that of the lease it reaches back to,
ROUND_NONCE_AT = 48  # and above both the round in which that is paid
ROUNDS_MAX = 2  # credit is a fee at most, and a quarter of the stake, which is at most three fees, less than another


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a forfeit goes to the buyer of one harmed lease at once."""

    harmed: Verdict
    amount_micros: int
    round_no: int  # 0, or 1 where all the fees were less than what is due


@transaction.atomic
def open_cases(*, window: Window, now: datetime) -> int:
    """Decide what follows from each confirmed breach of a window's settled leases; returns how many cases were opened.

    A lease signed while PROVEN: warning first, a request to slash later. Any other: slashing is held back, and the
    harmed buyer is paid from the provider's holdback instead; it waits for the leases of its trailing 30 days.
    """
    # The leases are locked, not their verdicts: a lock is a right to change, and nobody may change a verdict.
    related = ("lease__node_class__party", "lease__node_class__standing", "lease__window", "lease__lock_batch",
               "lease__buyer", "credit")  # fmt: skip
    armed = (
        Verdict.objects.select_for_update(of=("lease",))
        .filter(lease__window=window, lease__state="settled", lease__is_armed=True, slash_case=None, is_breach=True)
        .select_related(*related).order_by("lease__node_class__chain_class", "breach_at", "id")
    )  # fmt: skip
    opened = sum(_follow_armed(verdict, window, now) for verdict in armed)
    unproven = (
        unproven_to_judge(window).select_for_update(of=("lease",)).select_related(*related)
        .order_by("lease__node_class__chain_class", "lease__end_slot", "id")
    )  # fmt: skip
    return opened + sum(_follow_unproven(verdict, now) for verdict in unproven)


@transaction.atomic
def confirm_requests(*, now: datetime) -> int:
    """Learn from the chain what became of requests, forfeits and executions; returns how many cases changed."""
    changed = 0
    for case in SlashCase.objects.select_for_update().filter(outcome__in=("requested", "upheld")):
        changed += _confirm_request(case, now) or _confirm_execution(case, now)
    for case in SlashCase.objects.filter(verdict__credit__posted_at=None, forfeit_micros__gt=0):
        keys = list(case.forfeits.values_list("intent_key", flat=True))
        if ChainIntent.objects.filter(key__in=keys, state="final").count() == len(keys):
            changed += Credit.objects.filter(verdict_id=case.verdict_id, posted_at=None).update(posted_at=now)
    return changed


@transaction.atomic
def execute_due(*, now: datetime) -> int:
    """Execute requests whose dispute window is over. Anybody could; nobody is paid for it.

    An execution that met a pause is asked for again when the pause is over.
    """
    undisputed = Q(outcome="requested", appeal=None)
    due = SlashCase.objects.filter(undisputed | Q(outcome="upheld"), executable_at__lte=now)
    due = due.exclude(chain_id_of_request=None)
    sent = 0
    for case in due:
        key = _next_key(f"execute:{case.chain_id_of_request}")
        if key is not None:
            sender.submit(
                key=key, role="custody", contract="stake", function="execute_slash", args=[case.chain_id_of_request],
                now=now,
            )  # fmt: skip
            sent += 1
    return sent


def paused_cases() -> list[SlashCase]:
    """Return the cases whose last call the contract refused because slashing was paused."""
    waiting = []
    for case in SlashCase.objects.filter(outcome__in=("requested", "upheld")).select_related("node_class", "verdict"):
        number = case.chain_id_of_request
        base = f"slash:{case.verdict.lease_id}" if number is None else f"execute:{number}"
        last = _calls(base).last()
        if last is not None and _met_a_pause(last):
            waiting.append(case)
    return waiting


def _calls(base: str) -> QuerySet[ChainIntent]:
    return ChainIntent.objects.filter(Q(key=base) | Q(key__startswith=f"{base}:")).order_by("created_at", "id")


def _met_a_pause(call: ChainIntent) -> bool:
    return call.state == "reverted" and PAUSED in call.revert_reason


def _next_key(base: str) -> str | None:
    """Return the key for the next call of an act: None after one that did not revert for a pause, and in a pause."""
    calls = _calls(base)
    last = calls.last()
    if last is None:
        return base
    return f"{base}:{calls.count()}" if _met_a_pause(last) and not chain().call("stake", "paused") else None


def verdict_struct(*, verdict: Verdict, amount_micros: int, kind: int, now: datetime) -> VerdictStruct:
    """The verdict as the slash panel signs it."""
    lease = verdict.lease
    return VerdictStruct(
        evidence=bytes(verdict.evidence_hash), node_class=lease.node_class.chain_class, batch=lease.lock_batch.chain_no,
        line=lease.lock_line, amount=amount_micros, kind=kind,
        breach_at=int(breach_instant(verdict).timestamp()), nonce=_place(lease),
        expires=int((now + timedelta(days=VERDICT_VALID_DAYS)).timestamp()),
    )  # fmt: skip


def request_args(*, verdict: Verdict, amount_micros: int, kind: int, now: datetime) -> list[object]:
    """Arguments of `stake.request_slash`: the signed verdict and the lock batch it speaks of."""
    struct = verdict_struct(verdict=verdict, amount_micros=amount_micros, kind=kind, now=now)
    batch = verdict.lease.lock_batch
    signatures = sign_by_panel(struct, panel="slasher", needed=settings.SLASH_QUORUM.needed, contract="stake")
    return [struct.abi(), [int(line) for line in batch.lines], batch.buyers, batch.classes, signatures]


def _follow_armed(verdict: Verdict, window: Window, now: datetime) -> int:
    lease, node_class = verdict.lease, verdict.lease.node_class
    earlier = (
        SlashCase.objects.filter(
            node_class=node_class, verdict__is_breach=True,
            verdict__breach_at__gte=verdict.breach_at - timedelta(days=BREACH_MEMORY_DAYS),
        ).exclude(verdict__lease__window=window).values("verdict__lease__window").distinct().count()
    )  # fmt: skip
    kind = slash_kind(earlier_breaches=earlier, availability_ppm=verdict.availability_ppm)
    degrade(
        node_class=node_class, reason="confirmed breach", breach_at=verdict.breach_at,
        evidence=bytes(verdict.evidence_hash), now=now,
    )  # fmt: skip
    if not flag_is_on("slashing"):
        _open(verdict, "warned", kind, "Slashing opens in a later phase: a warning, no stake taken, then or later.",
              now=now)  # fmt: skip
        return 1
    if kind == WARNING:
        _open(verdict, "warned", kind, "First confirmed breach in 90 days: a warning, no stake taken.", now=now)
        return 1
    in_period = sum(
        case.amount_micros for case in SlashCase.objects.filter(node_class=node_class, verdict__lease__window=window)
    )
    recent = SlashCase.objects.filter(node_class=node_class, opened_at__gte=now - timedelta(days=BREACH_MEMORY_DAYS))
    amount = slash_micros(
        kind=kind, lease_stake_micros=lease.stake_micros,
        class_stake_micros=balance(code="stake.mirror", party=lease.provider_id, scope=node_class.pk).minor,
        slashed_this_period_micros=in_period, slashed_90_days_micros=sum(case.amount_micros for case in recent),
    )  # fmt: skip
    if amount == 0:
        _open(verdict, "warned", kind, "The cap of this period is used up: nothing more is taken.", now=now)
        return 1
    if not _is_in_time(verdict, now):
        _open(verdict, "warned", kind, "The breach is older than 17 days: too late to ask for stake.", now=now)
        return 1
    request_slash(verdict=verdict, amount_micros=amount, kind=kind, now=now)
    return 1


@transaction.atomic
def request_slash(*, verdict: Verdict, amount_micros: int, kind: int, now: datetime) -> SlashCase:
    """Open a case and bring the panel's request to the chain.

    Raises SlashHeldBack for a lease signed before proof, TooLate more than 17 days after the breach.
    """
    require_flag(name="slashing", what="Taking of stake")
    lease = verdict.lease
    if not lease.is_armed:
        raise SlashHeldBack(
            "Slashing is held back: this lease was signed before its class was proven.", lease=str(lease.pk)
        )
    breach_at = breach_instant(verdict)
    if now - breach_at > timedelta(days=REQUEST_DAYS_MAX):
        raise TooLate("A slash is asked for within 17 days of the breach.", breach_at=breach_at.isoformat())
    key = f"slash:{lease.pk}"
    case = _open(
        verdict, "requested", kind, "Repeated breach: slash requested by the panel.", amount=amount_micros, key=key,
        now=now,
    )  # fmt: skip
    sender.submit(
        key=key, role="custody", contract="stake", function="request_slash",
        args=request_args(verdict=verdict, amount_micros=amount_micros, kind=kind, now=now), now=now,
    )  # fmt: skip
    return case


def _follow_unproven(verdict: Verdict, now: datetime) -> int:
    """Take what an unproven class owes on this lease and on its trailing 30 days, whichever is more, from its holdback.

    The part that its trailing leases have paid before is not taken twice. A good lease may owe as well: what answers
    for a breach is a share of the stake that all of them together would carry.
    """
    credit = getattr(verdict, "credit", None)
    if waits_for_others(verdict):
        return 0
    trailing = trailing_of(verdict)
    if not (verdict.is_breach or credit or trailing.due_micros):
        return 0
    if verdict.is_breach:
        outcome, sentence = "held_back", "Slashing is held back until the benchmark is proven; the holdback pays."
    elif trailing.owed.breach:
        outcome, sentence = "held_back", "In breach over the trailing 30 days, slashing held back: the holdback pays."
    elif credit:
        outcome, sentence = "credited", "No breach; the credit of an unproven provider comes out of its holdback."
    else:
        outcome, sentence = "credited", "No breach; the credit over the trailing 30 days is more than day by day."
    parts = _share_out(verdict, trailing)
    case = _open(
        verdict, outcome, WARNING, sentence, forfeit=sum(part.amount_micros for part in parts),
        key=f"forfeit:{verdict.lease_id}", now=now,
    )  # fmt: skip
    if verdict.is_breach or (trailing.owed.breach and not _was_confirmed(trailing, but=case)):
        degrade(
            node_class=verdict.lease.node_class, reason="confirmed breach", breach_at=breach_instant(verdict),
            evidence=bytes(verdict.evidence_hash), now=now,
        )  # fmt: skip
    for part in parts:
        _forfeit(case, verdict, part, now)
    return 1


def _was_confirmed(trailing: Trailing, *, but: SlashCase) -> bool:
    cases = SlashCase.objects.filter(verdict__in=trailing.verdicts, outcome="held_back").exclude(pk=but.pk)
    return cases.exists()


def _share_out(verdict: Verdict, trailing: Trailing) -> list[_Part]:
    """Who gets what is due: the buyer of this lease up to its fee, then those of the leases that were down longest.

    The contract pays no more to a lease line at once than was locked for it. Credit and a share of the stake can be
    more than all the fees; what is left then goes round again, or staying unproven would be cheaper by it.
    """
    others = [each for each in reversed(trailing.verdicts) if each.pk != verdict.pk]
    harmed = [verdict, *sorted(others, key=lambda each: -each.down_minutes)]
    due, parts = trailing.due_micros, list[_Part]()
    for round_no in range(ROUNDS_MAX):
        for each in harmed:
            amount = min(due, each.lease.fee_micros)
            if amount:
                parts.append(_Part(each, amount, round_no))
            due -= amount
    return parts


def _forfeit(case: SlashCase, verdict: Verdict, part: _Part, now: datetime) -> None:
    """Ask the chain to give a part of the holdback to the buyer of one lease line."""
    harmed, amount_micros = part.harmed, part.amount_micros
    lease = harmed.lease
    own = harmed.pk == verdict.pk
    evidence = bytes(verdict.evidence_hash)
    if not own:
        evidence = hashlib.sha256(b"trailing" + evidence + bytes(harmed.evidence_hash)).digest()
    nonce = _place(verdict.lease) + (0 if own else _place(lease) << TRAILING_NONCE_AT)
    key = f"forfeit:{verdict.lease_id}" if own else f"forfeit:{verdict.lease_id}:{lease.pk}"
    if part.round_no:
        evidence = hashlib.sha256(b"round %d" % part.round_no + evidence).digest()
        nonce += part.round_no << ROUND_NONCE_AT
        key = f"{key}:round {part.round_no}"
    Forfeit.objects.create(
        id=uuid7(now), case=case, lease=lease, amount_micros=amount_micros, evidence_hash=evidence, nonce=nonce,
        intent_key=key, round_no=part.round_no, made_at=now,
    )  # fmt: skip
    struct = VerdictStruct(
        evidence=evidence, node_class=lease.node_class.chain_class, batch=lease.lock_batch.chain_no,
        line=lease.lock_line, amount=amount_micros, kind=1, breach_at=int(breach_instant(harmed).timestamp()),
        nonce=nonce, expires=int((now + timedelta(days=VERDICT_VALID_DAYS)).timestamp()),
    )  # fmt: skip
    batch = lease.lock_batch
    signatures = sign_by_panel(struct, panel="slasher", needed=settings.SLASH_QUORUM.needed, contract="escrow")
    sender.submit(
        key=key, role="custody", contract="escrow", function="forfeit_holdback",
        args=[struct.abi(), [int(line) for line in batch.lines], batch.buyers, batch.classes, signatures], now=now,
    )  # fmt: skip


def _open(
    verdict: Verdict, outcome: str, kind: int, sentence: str, *, amount: int = 0, forfeit: int = 0,
    key: str | None = None, now: datetime,
) -> SlashCase:  # fmt: skip
    lease = verdict.lease
    record(actor="market", action=f"slash_{outcome}", subject=lease.node_class_id, reason=sentence, now=now,
           lease=str(lease.pk), amount_micros=amount, forfeit_micros=forfeit)  # fmt: skip
    return SlashCase.objects.create(
        id=uuid7(now), verdict=verdict, node_class=lease.node_class, outcome=outcome, reason_kind=kind,
        sentence=sentence, amount_micros=amount, forfeit_micros=forfeit, intent_key=key, opened_at=now,
    )  # fmt: skip


def _confirm_request(case: SlashCase, now: datetime) -> int:
    if case.chain_id_of_request is not None:
        return 0
    intent = ChainIntent.objects.filter(key=case.intent_key).first()
    if intent is None or intent.state not in ("final", "reverted"):
        return 0
    if _met_a_pause(intent) and _is_in_time(case.verdict, now):
        return _request_again(case, now)
    if intent.state == "reverted":
        case.outcome, case.refusal = "held_back", intent.revert_reason
    else:
        event = ChainEvent.objects.get(tx_hash=intent.tx_hash, name="SlashRequested", final=True)
        case.chain_id_of_request = int(event.args["id"])
        requested_at = datetime.fromtimestamp(chain().block(event.block_number).timestamp, UTC)
        case.executable_at = requested_at + timedelta(hours=DISPUTE_HOURS)
    case.save()
    return 1


def _is_in_time(verdict: Verdict, now: datetime) -> bool:
    return now - breach_instant(verdict) <= timedelta(days=REQUEST_DAYS_MAX)


def _request_again(case: SlashCase, now: datetime) -> int:
    """Ask for the stake once more, by a verdict signed anew, where the request met a pause that is over."""
    key = _next_key(f"slash:{case.verdict.lease_id}")
    if key is None:
        return 0
    sender.submit(
        key=key, role="custody", contract="stake", function="request_slash",
        args=request_args(verdict=case.verdict, amount_micros=case.amount_micros, kind=case.reason_kind, now=now),
        now=now,
    )  # fmt: skip
    case.intent_key = key
    case.save(update_fields=["intent_key"])
    return 1


def _confirm_execution(case: SlashCase, now: datetime) -> int:
    event = ChainEvent.objects.filter(name="SlashExecuted", args__id=case.chain_id_of_request, booked=True).first()
    if event is None:
        return 0
    case.outcome, case.executed_at = "executed", now
    case.to_buyer_micros, case.to_pool_micros = int(event.args["to_buyer"]), int(event.args["to_pool"])
    case.save()
    record(actor="market", action="slash_executed", subject=case.node_class_id, reason="executed on chain", now=now,
           to_buyer_micros=case.to_buyer_micros, to_pool_micros=case.to_pool_micros)  # fmt: skip
    return 1


def breach_instant(verdict: Verdict) -> datetime:
    """When a broken lease was broken; one that is no breach by itself, when it was judged."""
    return verdict.breach_at or verdict.judged_at


def _place(lease: Lease) -> int:
    """One verdict per class and nonce takes effect: the place of this lease among the class's leases."""
    leases = Lease.objects.filter(node_class=lease.node_class_id).order_by("made_at", "id")
    return list(leases.values_list("pk", flat=True)).index(lease.pk) + 1
