"""Epochs: runs of transfers sealed under one root, so that history cannot be changed unseen.

leaf = keccak(0x00 || version || every column of the transfer, fixed width, big-endian); node = keccak(0x01 || left ||
right), by position; an odd node is promoted, never doubled. Each epoch carries the root of the one before and a hash of
all balances at its end. A root is made public by whoever calls `record_anchor` once the transaction is final.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from eth_hash.auto import keccak

from ledger.chart import Kind, Origin
from ledger.errors import UnknownLedger
from ledger.keccak import merkle_root as many_root
from ledger.leaves import LEAF_VERSION, leaf_hashes
from ledger.models import Epoch, EpochAnchor, Ledger, Transfer
from ledger.money import INT64_MIN

EPOCH_LENGTH_MAX = 100_000  # transfers
NO_ROOT = bytes(32)
_KINDS = {kind.value: number for number, kind in enumerate(Kind)}
_ORIGINS = {origin.value: number for number, origin in enumerate(Origin)}
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


@transaction.atomic
def close_epoch(ledger: int, now: datetime) -> Epoch | None:
    """Seal the transfers since the last epoch, at most EPOCH_LENGTH_MAX, and return the epoch; None if there are none.

    Never called inside a posting. Two callers at once make one epoch: the second waits, then finds nothing to seal.
    Raises UnknownLedger.
    """
    with connection.cursor() as cursor:  # apart from the lock of the posters, which must not wait for the hashing
        cursor.execute("select pg_advisory_xact_lock(7602, %s)", [ledger])
    next_seq = Ledger.objects.filter(pk=ledger).values_list("next_seq", flat=True).first()
    if next_seq is None:
        raise UnknownLedger("There is no such ledger.", ledger=ledger)
    last = Epoch.objects.filter(ledger=ledger).order_by("-no").first()
    from_seq = last.to_seq + 1 if last else 1
    to_seq = min(next_seq - 1, from_seq + EPOCH_LENGTH_MAX - 1)
    if to_seq < from_seq:
        return None
    no, prev_root = (last.no + 1, bytes(last.root)) if last else (1, NO_ROOT)
    root, totals = many_root(leaf_hashes(ledger, from_seq, to_seq)), totals_hash(ledger, to_seq)
    with connection.cursor() as cursor:  # the function knows which epoch is next, and refuses every other
        cursor.execute(
            "select seal_epoch(%s, %s, %s, %s, %s, %s, %s, %s)",
            (ledger, no, from_seq, to_seq, root, prev_root, totals, now),
        )
    return Epoch.objects.get(ledger=ledger, no=no)


def record_anchor(*, ledger: int, no: int, tx_hash: str, block_number: int, now: datetime) -> None:
    """Keep which final transaction made an epoch's root public; recording it again changes nothing."""
    EpochAnchor.objects.bulk_create(
        [EpochAnchor(ledger=ledger, no=no, tx_hash=tx_hash, block_number=block_number, anchored_at=now)],
        ignore_conflicts=True,
    )


def unanchored_epochs(ledger: int) -> list[Epoch]:
    """Return the closed epochs without an anchor, oldest first; they are anchored in this order."""
    anchored = EpochAnchor.objects.filter(ledger=ledger).values("no")
    return list(Epoch.objects.filter(ledger=ledger).exclude(no__in=anchored).order_by("no"))


def check_epochs(ledger: int) -> Iterator[tuple[bool, str]]:
    """Recompute every epoch of a ledger and yield one verdict for all that are right, or one for each that is not."""
    expected_seq, prev_root, wrong, epochs = 1, NO_ROOT, 0, 0
    for epochs, epoch in enumerate(Epoch.objects.filter(ledger=ledger).order_by("no"), start=1):
        faults = []
        if epoch.no != epochs:
            faults.append(f"epoch {epochs} is missing")
        if epoch.from_seq != expected_seq:
            faults.append(f"starts at {epoch.from_seq}, not at {expected_seq}")
        if bytes(epoch.prev_root) != prev_root:
            faults.append("does not carry the root before it")
        leaves = leaf_hashes(ledger, epoch.from_seq, epoch.to_seq)
        if len(leaves) != epoch.n:
            faults.append(f"has {len(leaves)} transfers, not {epoch.n}")
        elif many_root(leaves) != bytes(epoch.root):
            faults.append("its transfers give another root")
        if totals_hash(ledger, epoch.to_seq) != bytes(epoch.totals_hash):
            faults.append("its balances give another hash")
        expected_seq, prev_root = epoch.to_seq + 1, bytes(epoch.root)
        if faults:
            wrong += 1
            yield False, f"epoch {epoch.no} ({epoch.from_seq} to {epoch.to_seq}): {'; '.join(faults)}"
    if not wrong:
        yield True, f"{epochs} epochs tile the numbers, chain their roots and agree with the transfers"


# -- the tree --------------------------------------------------------------------------------------------------------


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes; 32 zero bytes for none."""
    level = list(leaves)
    if not level:
        return NO_ROOT
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    pairs = [keccak(b"\x01" + level[place] + level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


@dataclass(frozen=True)
class Inclusion:
    """Proof that a transfer lies in an epoch: its leaf, and its sisters from below, each with its side."""

    ledger: int
    epoch: int
    leaf: bytes
    sisters: tuple[tuple[str, bytes], ...]  # ("left" | "right", hash)

    def root(self) -> bytes:
        """Return the root that this proof leads to."""
        here = self.leaf
        for side, sister in self.sisters:
            here = keccak(b"\x01" + (sister + here if side == "left" else here + sister))
        return here


def prove_transfer(*, ledger: int, seq: int) -> Inclusion | None:
    """Return the proof for one transfer, or None while no epoch has sealed it."""
    return prove_transfers(ledger=ledger, seqs=[seq]).get(seq)


def prove_transfers(*, ledger: int, seqs: Iterable[int]) -> dict[int, Inclusion]:
    """Return the proofs of transfers by their numbers, those that are sealed; each epoch's tree is made once."""
    waiting, found = sorted(set(seqs)), {}
    while waiting:
        epoch = Epoch.objects.filter(ledger=ledger, from_seq__lte=waiting[0], to_seq__gte=waiting[0]).first()
        if epoch is None:
            break  # what comes later is not sealed either
        levels = [[leaf.tobytes() for leaf in leaf_hashes(ledger, epoch.from_seq, epoch.to_seq)]]
        while len(levels[-1]) > 1:
            levels.append(_next_level(levels[-1]))
        while waiting and waiting[0] <= epoch.to_seq:
            seq = waiting.pop(0)
            place = seq - epoch.from_seq
            found[seq] = Inclusion(ledger, epoch.no, levels[0][place], _sisters(levels, place))
    return found


def _sisters(levels: Sequence[Sequence[bytes]], place: int) -> tuple[tuple[str, bytes], ...]:
    sisters = []
    for level in levels[:-1]:
        sister = place ^ 1
        if sister < len(level):
            sisters.append(("left" if sister < place else "right", level[sister]))
        place //= 2
    return tuple(sisters)


# -- leaves and totals -----------------------------------------------------------------------------------------------


def leaf_hash(transfer: Transfer) -> bytes:
    """Return the leaf of one transfer."""
    return keccak(leaf_bytes(transfer))


def leaf_bytes(transfer: Transfer) -> bytes:
    """Return what a leaf is hashed from: every column, at a fixed width; what is absent is told apart from zero."""
    reference = bytes(transfer.reference) if transfer.reference is not None else None
    return (
        b"\x00"
        + LEAF_VERSION.to_bytes(1, "big")
        + transfer.ledger.to_bytes(4, "big")
        + transfer.id.bytes
        + b"".join(
            number.to_bytes(8, "big") for number in (transfer.seq, transfer.debit, transfer.credit, transfer.amount)
        )
        + bytes((_KINDS[transfer.kind],))
        + transfer.code.to_bytes(2, "big", signed=True)
        + bytes((_ORIGINS[transfer.origin],))
        + _uuid(transfer.pending_id)
        + _uuid(transfer.link)
        + _time(transfer.timeout_at)
        + (bytes(33) if reference is None else b"\x01" + keccak(reference))
        + _time(transfer.effective_at)
        + _time(transfer.posted_at)
    )


def _uuid(value: UUID | None) -> bytes:
    return bytes(17) if value is None else b"\x01" + value.bytes


def _time(value: datetime | None) -> bytes:
    """Microseconds since 1970, or the one number that is no time."""
    micros = INT64_MIN if value is None else (value - _EPOCH_START) // timedelta(microseconds=1)
    return micros.to_bytes(8, "big", signed=True)


def totals_hash(ledger: int, to_seq: int) -> bytes:
    """Return the hash of every account's four sums over the transfers up to `to_seq`, by account id."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select account, sum(debits_posted)::bigint, sum(credits_posted)::bigint, sum(debits_pending)::bigint,
                      sum(credits_pending)::bigint
                 from transfer_effects(%s, 1, %s) group by account order by account""",
            [ledger, to_seq],
        )
        rows = cursor.fetchall()
    return keccak(b"".join(value.to_bytes(8, "big", signed=True) for row in rows for value in row))
