"""The sender: what business code means to send, sent exactly once.

`submit` writes an intent in the caller's transaction and touches no chain. `pump` brings intents out: nonce and bytes
are chosen, signed and *stored* before anything is broadcast, so that after a crash the same bytes are sent again and
never a second nonce for one intent. What does not come through is renewed under the same nonce (`stuck.py`); which of
its transactions went through is found by looking up every stored hash.

    queued --sign, store, commit--> signed --broadcast--> sent --finalized receipt--> final | reverted
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Max

from ledger import faults
from ledger.ids import uuid7
from ledger.models import ChainAttempt, ChainContract, ChainEvent, ChainIntent
from ledger.posting import Posting
from ledger.rails import abi, gas_money, stuck
from ledger.rails.base import Chain, Receipt
from ledger.rails.errors import (
    CallReverted,
    ContractUnknown,
    InsideTransaction,
    IntentReused,
    KeyLimitReached,
    KeyOutOfGasMoney,
    SenderBusy,
    SignerRefused,
)
from ledger.rails.evm import chain
from ledger.rails.signer import ROLES, signer

State = ChainIntent.State
OPEN_STATES = (State.QUEUED, State.SIGNED, State.SENT)
SENDER_LOCK = 31_338_002  # advisory lock of the one sender, per database
LOCK_SECONDS_MAX = 60
BATCH = 200
EMBEDDED_GAS = 30_000_000  # gas is free on the embedded chain: no estimate, which would run everything twice
ESTIMATE_MARGIN_PERCENT = 25
ESTIMATE_MARGIN_GAS = 60_000  # after a reorganisation written slots may be fresh again: 17,100 more for each
# A node may lag behind the one that told the nonce: only after this long without any receipt are our bytes given up.
GONE_AFTER = timedelta(minutes=10)
GONE = "the finalized chain has passed its nonce, yet none of its transactions has a receipt"


@dataclass(frozen=True)
class Pumped:
    """What one pump did: transactions handed to the chain, and intents that reached their end."""

    sent: int = 0
    final: int = 0
    reverted: int = 0

    def __add__(self, other: Pumped) -> Pumped:
        return Pumped(self.sent + other.sent, self.final + other.final, self.reverted + other.reverted)


# -- what business code calls ----------------------------------------------------------------------------------------
def submit(
    *, key: str, role: str, contract: str, function: str, args: Sequence[Any], plan: Sequence[Posting] = (),
    force_gas: int | None = None, now: datetime,
) -> ChainIntent:  # fmt: skip
    """Record in the caller's transaction that `role` shall call `contract.function(*args)`; no chain is asked.

    `plan` is posted when the call's `Locked`, `Settled` or `Withdrawn` is final. The same key with the same call
    returns the row it made before. `force_gas` sends with that much gas even where an estimate says that it reverts.
    Raises `IntentReused`, `ContractUnknown`, `FunctionUnknown`.
    """
    if not ROLES.fullmatch(role):
        signer().address(role)  # raises RoleUnknown
    calldata = abi.encode_call(contract, function, args)
    to_address = _address_of(contract)
    ChainIntent.objects.bulk_create(
        [
            ChainIntent(
                id=uuid7(now), key=key, role=role, contract=contract, function=function, to_address=to_address,
                calldata=calldata, gas_limit=force_gas and max(force_gas, least_gas(calldata)),
                force=force_gas is not None, plan=[posting.as_json() for posting in plan], created_at=_next_place(now),
            )
        ],
        ignore_conflicts=True,
    )  # fmt: skip
    row = ChainIntent.objects.get(key=key)
    if (row.role, row.to_address, bytes(row.calldata)) != (role, to_address, calldata):
        raise IntentReused(f"The key {key!r} was used for another call.", key=key, function=row.function)
    return row


def again(intent: ChainIntent, *, key: str, now: datetime) -> ChainIntent:
    """Submit the call of an intent that reverted once more, with its plan, under a key of its own.

    For refusals that only time heals. Raises `IntentReused` where the key or the intent's call is still in use.
    """
    if intent.state != State.REVERTED:
        raise IntentReused("Only a call that reverted is made again.", key=intent.key, function=intent.function)
    ChainIntent.objects.bulk_create(
        [
            ChainIntent(
                id=uuid7(now), key=key, role=intent.role, contract=intent.contract, function=intent.function,
                to_address=intent.to_address, calldata=bytes(intent.calldata), plan=intent.plan,
                gas_limit=intent.gas_limit if intent.force else None, force=intent.force, created_at=_next_place(now),
            )
        ],
        ignore_conflicts=True,
    )  # fmt: skip
    row = ChainIntent.objects.get(key=key)
    if (row.role, row.to_address, bytes(row.calldata)) != (intent.role, intent.to_address, bytes(intent.calldata)):
        raise IntentReused(f"The key {key!r} was used for another call.", key=key, function=row.function)
    return row


def least_gas(calldata: bytes) -> int:
    """The gas below which a chain refuses the bytes outright, so that they could not even revert (EIP-7623)."""
    zeros = calldata.count(0)
    return 21_000 + 10 * (zeros + 4 * (len(calldata) - zeros))


def _address_of(contract: str) -> str:
    row = ChainContract.objects.filter(name=contract, chain_id=settings.CHAIN_ID).first()
    if row is None:
        raise ContractUnknown(f"The contract {contract} is not deployed on chain {settings.CHAIN_ID}.",
                              contract=contract, chain_id=settings.CHAIN_ID)  # fmt: skip
    return row.address


def _next_place(now: datetime) -> datetime:
    """Calls go out in the order of submission; many share one `now`, so each steps behind the one before."""
    last = (
        ChainIntent.objects.filter(state__in=OPEN_STATES).order_by("-created_at").values_list("created_at", flat=True)
    ).first()
    return now if last is None or last < now else last + timedelta(microseconds=1)


# -- the pump --------------------------------------------------------------------------------------------------------
def pump(*, now: datetime) -> Pumped:
    """Send every queued intent and see to every open one; what is not final yet is looked at by the next pump.

    Raises `InsideTransaction` within an open transaction (a rollback would forget bytes that are out already) and
    `SenderBusy` if another sender of this database works for longer than a minute.
    """
    if connection.in_atomic_block:
        raise InsideTransaction("The sender commits between its steps: call pump outside of transaction.atomic().")
    here = chain()
    with _only_sender():
        done = _send_again(here, now)
        while batch := _sign_batch(here, now):
            faults.point("sender.signed")
            done += _bring_out(here, batch, now)
            if all(row.state == State.QUEUED for row in batch):
                break  # keys that do not sign now
        return done


@contextmanager
def _only_sender() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_SECONDS_MAX}s"])
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [SENDER_LOCK])
        except OperationalError as error:
            raise SenderBusy("Another sender of this database is still at work.") from error
        finally:
            cursor.execute("RESET lock_timeout")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [SENDER_LOCK])


def _send_again(here: Chain, now: datetime) -> Pumped:
    """What an earlier pump left: look every stored hash up, renew what is stuck, then send the same bytes again."""
    rows = list(ChainIntent.objects.filter(state__in=(State.SIGNED, State.SENT)).order_by("created_at", "id"))
    if not rows:
        return Pumped()
    found, waiting = _resolve(here, rows, {}, now)
    faults.point("sender.looked_up")
    if not waiting:
        return found
    if stuck.renew(here, waiting, now):
        faults.point("stuck.renewed")
    _save(waiting)
    return found + _bring_out(here, waiting, now)


@transaction.atomic
def _sign_batch(here: Chain, now: datetime) -> list[ChainIntent]:
    """Give the next queued intents nonces and bytes, and store both; they are committed when this returns."""
    # The rows are locked although there is one sender: a second one, started by mistake, finds them signed.
    queued = list(
        ChainIntent.objects.select_for_update().filter(state=State.QUEUED).order_by("created_at", "id")[:BATCH]
    )
    nonces: dict[str, int] = {}
    attempts: list[ChainAttempt] = []
    touched = []
    fees = stuck.capped(here.fees()) if queued else {}
    purse = gas_money.Purse(here, fees)
    silent: set[str] = set()
    for row in queued:
        if row.role in silent:  # in order or not at all
            continue
        try:
            gas_limit = _gas_limit(here, row)
            purse.pay(row, gas_limit)
            row.gas_limit = gas_limit
        except KeyOutOfGasMoney as refusal:  # nothing is wrong with the call: it waits until somebody pays in
            silent.add(row.role)
            stuck.note(row, str(refusal), now)
            touched.append(row)
            continue
        except CallReverted as refusal:
            # A node's estimate sees only what is mined. While calls ahead of this one are under way (the approval
            # before the deposit), it and all behind it wait; else it ends here: nothing was sent, no nonce is used.
            if attempts or ChainIntent.objects.filter(state__in=(State.SIGNED, State.SENT)).exists():
                break
            row.state, row.revert_reason, row.final_at = State.REVERTED, str(refusal), now
            touched.append(row)
            continue
        touched.append(row)
        if row.role not in nonces:
            nonces[row.role] = _next_nonce(here, row.role)
        row.nonce = nonces[row.role]
        try:
            attempt = stuck.sign(here, row, fees, now)
        except (KeyLimitReached, SignerRefused) as refusal:  # this key waits; the others' calls go out
            row.nonce = None
            silent.add(row.role)
            stuck.note(row, str(refusal), now)
            continue
        nonces[row.role] += 1
        stuck.note(row, "", now)
        row.state, row.tx_hash = State.SIGNED, attempt.tx_hash
        attempts.append(attempt)
    _save(touched)
    ChainAttempt.objects.bulk_create(attempts)
    gas_money.keep(purse, now)
    faults.point("sender.before_commit")
    return touched


def _gas_limit(here: Chain, row: ChainIntent) -> int:
    if row.gas_limit:
        return row.gas_limit
    if here.embedded is not None:
        return EMBEDDED_GAS
    needed = here.estimate_gas(
        sender=signer().address(row.role), to=row.to_address, data=bytes(row.calldata)
    )
    return needed * (100 + ESTIMATE_MARGIN_PERCENT) // 100 + ESTIMATE_MARGIN_GAS


def _next_nonce(here: Chain, role: str) -> int:
    # The chain does not know bytes that are stored but not out yet; the database does not know what a key sent
    # before this database existed.
    stored = ChainIntent.objects.filter(role=role).aggregate(last=Max("nonce"))["last"]
    return max(here.next_nonce(signer().address(role)), -1 if stored is None else stored + 1, 0)


def _bring_out(here: Chain, batch: Sequence[ChainIntent], now: datetime) -> Pumped:
    """Broadcast what is signed, in order, then take in the receipts."""
    signed = [row for row in batch if row.state in (State.SIGNED, State.SENT)]
    refused = sum(row.state == State.REVERTED for row in batch)
    if not signed:
        return Pumped(reverted=refused)
    newest = stuck.newest_attempts(signed)
    answers = here.broadcast([bytes(newest[row.pk].raw) for row in signed], now=now)
    faults.point("sender.broadcast")
    known: dict[str, Receipt] = {}
    sent = 0
    for row, answer in zip(signed, answers, strict=True):
        stuck.note(row, answer.refusal or stuck.lasting(row.trouble), now)
        if answer.refusal is None:
            row.state, sent = State.SENT, sent + 1
        if answer.receipt is not None:
            known[answer.tx_hash] = answer.receipt
    stuck.keep_refusals(newest, answers)
    _save([row for row in signed if newest[row.pk].tx_hash not in known])  # what came at once is saved below
    faults.point("sender.marked_sent")
    ended, _ = _resolve(here, signed, known, now)
    faults.point("sender.resolved")
    return Pumped(sent, ended.final, ended.reverted + refused)


def _resolve(
    here: Chain, rows: Sequence[ChainIntent], known: dict[str, Receipt], now: datetime
) -> tuple[Pumped, list[ChainIntent]]:
    """End every intent whose receipt is final; return the counts and those that are in no block at all."""
    finalized = here.finalized()
    attempts: dict[Any, list[ChainAttempt]] = {}
    for attempt in ChainAttempt.objects.filter(intent__in=rows).defer("raw").order_by("pk"):
        attempts.setdefault(attempt.intent_id, []).append(attempt)
    ended, waiting, noted = [], [], []
    final_nonces: dict[str, int] = {}
    for row in rows:
        found = _mined(here, attempts.get(row.pk, []), known)
        if found is None:
            if _nonce_is_gone(here, row, final_nonces) and _is_given_up(here, row, attempts.get(row.pk, []), now):
                row.state, row.final_at = State.REVERTED, now
                row.revert_reason = f"nonce {row.nonce} of {row.role} was used by another transaction"
                ended.append(row)
            elif row.trouble == GONE:
                noted.append(row)
            else:
                waiting.append(row)
            continue
        attempt, receipt = found
        if receipt.block_number <= finalized.number and _still_stands(here, receipt, finalized.number):
            _end(here, row, attempt, receipt, now)
            ended.append(row)
        elif row.trouble:
            stuck.note(row, "", now)
            noted.append(row)
    faults.point("sender.before_resolve")
    _save([*ended, *noted])
    reverted = sum(row.state == State.REVERTED for row in ended)
    return Pumped(final=len(ended) - reverted, reverted=reverted), waiting


def _mined(
    here: Chain, attempts: Sequence[ChainAttempt], known: dict[str, Receipt]
) -> tuple[ChainAttempt, Receipt] | None:
    """The one attempt that is in a block: at most one can be, since all have one nonce."""
    for attempt in attempts:
        receipt = known.get(attempt.tx_hash) or here.receipt(attempt.tx_hash)
        if receipt is not None:
            return attempt, receipt
    return None


def _still_stands(here: Chain, receipt: Receipt, finalized_number: int) -> bool:
    """Read the block's hash again: a receipt may come from a branch that has lost."""
    if here.embedded is not None:
        return True
    block = here.block(receipt.block_number)
    return block is not None and block.hash == receipt.block_hash and block.number <= finalized_number


def _nonce_is_gone(here: Chain, row: ChainIntent, final_nonces: dict[str, int]) -> bool:
    """Whether the finalized chain has passed this nonce without any bytes of ours: they can never go through."""
    if row.nonce is None:
        return False
    if row.role not in final_nonces:
        final_nonces[row.role] = here.final_nonce(signer().address(row.role))
    return final_nonces[row.role] > row.nonce


def _is_given_up(here: Chain, row: ChainIntent, attempts: Sequence[ChainAttempt], now: datetime) -> bool:
    """Whether the missing receipts have been missing for long enough, and no event tells of these bytes."""
    if here.embedded is not None:
        return True
    stuck.note(row, GONE, now)
    heard = ChainEvent.objects.filter(tx_hash__in=[attempt.tx_hash for attempt in attempts]).exists()
    return not heard and row.trouble_at is not None and now - row.trouble_at >= GONE_AFTER


def _end(here: Chain, row: ChainIntent, attempt: ChainAttempt, receipt: Receipt, now: datetime) -> None:
    is_call = attempt.kind == ChainAttempt.Kind.CALL
    row.state = State.FINAL if receipt.succeeded and is_call else State.REVERTED
    row.tx_hash, row.block_number, row.gas_used = receipt.tx_hash, receipt.block_number, receipt.gas_used
    row.final_at = now
    row.receipt = {"block_hash": receipt.block_hash, "block_number": receipt.block_number, "gas_used": receipt.gas_used,
                   "succeeded": receipt.succeeded}  # fmt: skip
    stuck.note(row, "", now)
    if not is_call:
        row.revert_reason = stuck.cancelled_by(row)
    elif not receipt.succeeded:
        row.revert_reason = here.revert_sentence(
            receipt, sender=signer().address(row.role), to=row.to_address, data=bytes(row.calldata)
        )


# One statement for a whole batch; Django's bulk_update builds a CASE per row and field, 20 times slower for 200 rows.
_SAVE = """
    UPDATE ledger_chainintent AS row
       SET state = v.state, nonce = v.nonce, tx_hash = v.tx_hash, gas_limit = v.gas_limit,
           block_number = v.block_number, gas_used = v.gas_used, receipt = v.receipt::jsonb,
           revert_reason = v.revert_reason, final_at = v.final_at, trouble = v.trouble, trouble_at = v.trouble_at
      FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
                  %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[])
        AS v (id, state, nonce, tx_hash, gas_limit, block_number, gas_used, receipt, revert_reason, final_at,
              trouble, trouble_at)
     WHERE row.id = v.id AND row.state IN ('queued', 'signed', 'sent')  -- what has ended stays as it is
"""


def _save(rows: Sequence[ChainIntent]) -> None:
    if not rows:
        return
    columns: list[Any] = [
        [row.id for row in rows], [str(row.state) for row in rows], [row.nonce for row in rows],
        [row.tx_hash for row in rows], [row.gas_limit for row in rows], [row.block_number for row in rows],
        [row.gas_used for row in rows], [None if row.receipt is None else json.dumps(row.receipt) for row in rows],
        [row.revert_reason for row in rows], [row.final_at for row in rows],
        [row.trouble for row in rows], [row.trouble_at for row in rows],
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_SAVE, columns)
