"""The sender: what business code means to send, sent exactly once.

`submit` writes an intent in the caller's transaction and touches no chain. `pump` brings intents out: nonce and bytes
are chosen, signed and *stored* before anything is broadcast, so that after a crash the same bytes are sent again and
never a second transaction for one intent.

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
from eth_utils.hexadecimal import encode_hex

from ledger import faults
from ledger.ids import uuid7
from ledger.models import ChainAttempt, ChainContract, ChainIntent
from ledger.posting import Posting
from ledger.rails import abi
from ledger.rails.base import Chain, Receipt
from ledger.rails.errors import CallReverted, ContractUnknown, InsideTransaction, IntentReused, SenderBusy
from ledger.rails.evm import chain
from ledger.rails.signer import ROLES, signer

State = ChainIntent.State
OPEN_STATES = (State.QUEUED, State.SIGNED, State.SENT)
SENDER_LOCK = 31_338_002  # advisory lock of the one sender, per database
LOCK_SECONDS_MAX = 60
BATCH = 200
EMBEDDED_GAS = 30_000_000  # gas is free on the embedded chain: no estimate, which would run everything twice
ESTIMATE_MARGIN_PERCENT = 25


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

    `plan` is posted when the call's `Locked` or `Settled` is final. The same key with the same call returns the row it
    made before. `force_gas` sends with that much gas even where an estimate says that the call reverts.
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
    """What an earlier pump left: first look every stored hash up, then send the same bytes again."""
    rows = list(ChainIntent.objects.filter(state__in=(State.SIGNED, State.SENT)).order_by("created_at", "id"))
    if not rows:
        return Pumped()
    found = _resolve(here, rows, {}, now)
    still_open = [row for row in rows if row.state in OPEN_STATES]
    faults.point("sender.looked_up")
    return found + (_bring_out(here, still_open, now) if still_open else Pumped())


@transaction.atomic
def _sign_batch(here: Chain, now: datetime) -> list[ChainIntent]:
    """Give the next queued intents nonces and bytes, and store both; they are committed when this returns."""
    queued = list(ChainIntent.objects.filter(state=State.QUEUED).order_by("created_at", "id")[:BATCH])
    nonces: dict[str, int] = {}
    attempts: list[ChainAttempt] = []
    touched = []
    for row in queued:
        try:
            row.gas_limit = _gas_limit(here, row)
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
        row.nonce, nonces[row.role] = nonces[row.role], nonces[row.role] + 1
        signed = signer().sign_transaction(row.role, _fields(here, row))
        row.state, row.tx_hash = State.SIGNED, encode_hex(signed.tx_hash)
        attempts.append(ChainAttempt(intent=row, nonce=row.nonce, raw=signed.raw, tx_hash=row.tx_hash, created_at=now))
    _save(touched)
    ChainAttempt.objects.bulk_create(attempts)
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
    return needed * (100 + ESTIMATE_MARGIN_PERCENT) // 100


def _next_nonce(here: Chain, role: str) -> int:
    # The chain does not know bytes that are stored but not out yet; the database does not know what a key sent
    # before this database existed.
    stored = ChainIntent.objects.filter(role=role).aggregate(last=Max("nonce"))["last"]
    return max(here.next_nonce(signer().address(role)), -1 if stored is None else stored + 1, 0)


def _fields(here: Chain, row: ChainIntent) -> dict[str, Any]:
    return {
        "chainId": here.chain_id, "nonce": row.nonce, "gas": row.gas_limit, "to": row.to_address, "value": 0,
        "data": bytes(row.calldata), **here.fees(),
    }  # fmt: skip


def _bring_out(here: Chain, batch: Sequence[ChainIntent], now: datetime) -> Pumped:
    """Broadcast what is signed, in order, then take in the receipts."""
    signed = [row for row in batch if row.state in (State.SIGNED, State.SENT)]
    if not signed:
        return Pumped(reverted=len(batch))
    raws = {
        attempt.intent_id: bytes(attempt.raw)
        for attempt in ChainAttempt.objects.filter(intent__in=signed).order_by("created_at", "pk")
    }
    answers = here.broadcast([raws[row.pk] for row in signed], now=now)
    faults.point("sender.broadcast")
    known: dict[str, Receipt] = {}
    sent = 0
    for row, answer in zip(signed, answers, strict=True):
        row.revert_reason = answer.refusal or ""
        if answer.refusal is None:
            row.state, sent = State.SENT, sent + 1
        if answer.receipt is not None:
            known[answer.tx_hash] = answer.receipt
    _save([row for row in signed if row.tx_hash not in known])  # a receipt that came at once is saved below
    faults.point("sender.marked_sent")
    ended = _resolve(here, signed, known, now)
    faults.point("sender.resolved")
    return Pumped(sent, ended.final, ended.reverted + len(batch) - len(signed))


def _resolve(here: Chain, rows: Sequence[ChainIntent], known: dict[str, Receipt], now: datetime) -> Pumped:
    """End every intent whose receipt is final; the others stay as they are."""
    finalized = here.finalized()
    hashes: dict[Any, list[str]] = {}
    if any(row.tx_hash not in known for row in rows):
        for attempt in ChainAttempt.objects.filter(intent__in=rows).order_by("pk"):
            hashes.setdefault(attempt.intent_id, []).append(attempt.tx_hash)
    ended = []
    for row in rows:
        receipt = known.get(row.tx_hash or "") or _first_receipt(here, hashes.get(row.pk, []))
        if receipt is None:
            if _nonce_is_gone(here, row):
                row.state, row.final_at = State.REVERTED, now
                row.revert_reason = f"nonce {row.nonce} of {row.role} was used by another transaction"
                ended.append(row)
        elif receipt.block_number <= finalized.number and _still_stands(here, receipt, finalized.number):
            _end(here, row, receipt, now)
            ended.append(row)
    faults.point("sender.before_resolve")
    _save(ended)
    reverted = sum(row.state == State.REVERTED for row in ended)
    return Pumped(final=len(ended) - reverted, reverted=reverted)


def _first_receipt(here: Chain, hashes: Sequence[str]) -> Receipt | None:
    for tx_hash in hashes:
        receipt = here.receipt(tx_hash)
        if receipt is not None:
            return receipt
    return None


def _still_stands(here: Chain, receipt: Receipt, finalized_number: int) -> bool:
    """Read the block's hash again: a receipt may come from a branch that has lost."""
    if here.embedded is not None:
        return True
    block = here.block(receipt.block_number)
    return block is not None and block.hash == receipt.block_hash and block.number <= finalized_number


def _nonce_is_gone(here: Chain, row: ChainIntent) -> bool:
    """Whether the finalized chain has passed this nonce without any bytes of ours: they can never go through."""
    if row.nonce is None:
        return False
    return here.final_nonce(signer().address(row.role)) > row.nonce


def _end(here: Chain, row: ChainIntent, receipt: Receipt, now: datetime) -> None:
    row.state = State.FINAL if receipt.succeeded else State.REVERTED
    row.tx_hash, row.block_number, row.gas_used = receipt.tx_hash, receipt.block_number, receipt.gas_used
    row.final_at = now
    row.receipt = {"block_hash": receipt.block_hash, "block_number": receipt.block_number, "gas_used": receipt.gas_used,
                   "succeeded": receipt.succeeded}  # fmt: skip
    row.revert_reason = "" if receipt.succeeded else here.revert_sentence(
        receipt, sender=signer().address(row.role), to=row.to_address, data=bytes(row.calldata)
    )


# One statement for a whole batch; Django's bulk_update builds a CASE per row and field, 20 times slower for 200 rows.
_SAVE = """
    UPDATE ledger_chainintent AS row
       SET state = v.state, nonce = v.nonce, tx_hash = v.tx_hash, gas_limit = v.gas_limit,
           block_number = v.block_number, gas_used = v.gas_used, receipt = v.receipt::jsonb,
           revert_reason = v.revert_reason, final_at = v.final_at
      FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
                  %s::text[], %s::text[], %s::timestamptz[])
        AS v (id, state, nonce, tx_hash, gas_limit, block_number, gas_used, receipt, revert_reason, final_at)
     WHERE row.id = v.id
"""


def _save(rows: Sequence[ChainIntent]) -> None:
    if not rows:
        return
    columns: list[Any] = [
        [row.id for row in rows], [str(row.state) for row in rows], [row.nonce for row in rows],
        [row.tx_hash for row in rows], [row.gas_limit for row in rows], [row.block_number for row in rows],
        [row.gas_used for row in rows], [None if row.receipt is None else json.dumps(row.receipt) for row in rows],
        [row.revert_reason for row in rows], [row.final_at for row in rows],
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_SAVE, columns)
