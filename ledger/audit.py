"""The whole history of a ledger recomputed in one pass: every invariant in it, and the first wrong row of each.

`reconcile.check_books` asks the same of SQL, query by query. Here each transfer is read once and everything is folded
beside the hashing of the epochs, so that a million transfers are a matter of seconds, and two independent pieces of
code must agree on what the books say.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction
from eth_hash.auto import keccak

from ledger.chart import ORIGIN_OF_PROGRAMME
from ledger.epochs import NO_ROOT
from ledger.keccak import Bytes, keccak_many, merkle_root
from ledger.leaves import FIELDS, KINDS, NO_TIME, ORIGINS, Rows, leaves_of, read_transfers
from ledger.models import Account, Epoch, Ledger, Transfer
from ledger.reconcile import Finding

Ints = npt.NDArray[np.int64]

READ_AT_ONCE = 100_000  # transfers
_EXACT_AT_ONCE = 1 << 20  # numbers of 32 bits whose sum a float still holds to the unit
_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)  # spreads the upper half of an id over the 64 bits of the lower
_POSTED, _PENDING, _POST, _EXPIRE = (KINDS.index(word) for word in ("posted", "pending", "post", "expire"))
_ACCOUNT = ("id", "code", "floor", "debits_posted", "credits_posted", "debits_pending", "credits_pending")
_LOOKS = {  # what is looked at: its invariant, and what is so when it holds
    "sides": ("L1", "debits equal credits, posted and pending apart"),
    "counters": ("L2", "every counter is the sum of its history"),
    "floors": ("L3", "no floor was broken at any commit"),
    "ids": ("L4", "an id exists once"),
    "accounts": ("L6", "transfers stay in their ledger"),
    "links": ("L6", "linked groups are whole"),
    "holds": ("L7", "a hold ends once, as it began, in time, and gives no more than it reserved"),
    "numbers": ("L8", "the numbers have no gap"),
    "epochs": ("L8", "epochs tile the numbers, chain their roots and agree with the transfers"),
    "origins": ("L13", "money of a programme and of a hold keeps its origin"),
    "width": ("L14", "no sum leaves 64 bits"),
}

def audit_ledger(ledger: int) -> list[Finding]:
    """Recompute one ledger from its transfers; one finding for each invariant, all `ok` when the books are intact.

    Sees one moment of the books, also while others post. Looks at L1 to L4, L6 to L8, L13 and L14.
    """
    is_outermost = not connection.in_atomic_block
    with transaction.atomic():
        if is_outermost:
            with connection.cursor() as cursor:
                cursor.execute("set transaction isolation level repeatable read, read only")
        return _Audit(ledger).run()


class _Audit:
    """One pass over one ledger: what was met so far, and the first row of each kind that is wrong."""

    def __init__(self, ledger: int) -> None:
        self.ledger = ledger
        self.wrong: dict[str, str] = {}
        self.accounts = list(Account.objects.filter(ledger_id=ledger).order_by("pk").values_list(*_ACCOUNT, named=True))
        self.ids: Ints = np.array([account.id for account in self.accounts], np.int64)
        self.is_credit = np.array([account.floor == "credit" for account in self.accounts], bool)
        self.is_debit = np.array([account.floor == "debit" for account in self.accounts], bool)
        self.sums = np.zeros((len(self.ids), 4), np.int64)  # debits, credits, pending debits, pending credits
        self.about = np.zeros((len(self.ids), 4))  # the same, inexact, but never wrapped
        self.touched = np.zeros(len(self.ids), bool)
        self.room = np.zeros(len(self.ids), np.int64)  # above the floor, at the end of the last whole run
        self.open_run: list[Ints] = [np.zeros(0, np.int64)] * 3  # account, change of room, number
        self.open_since = NO_TIME
        self.holds: dict[bytes, tuple[Any, ...]] = {}
        self.ended: set[bytes] = set()
        self.groups: dict[bytes, list[int]] = {}  # link: members, time, first number
        self.keys: list[npt.NDArray[np.uint64]] = []

    def run(self) -> list[Finding]:
        """Read everything once and return the findings."""
        next_seq = Ledger.objects.values_list("next_seq", flat=True).get(pk=self.ledger)
        expected, prev_root, roots = 1, NO_ROOT, []
        with ThreadPoolExecutor(2) as pool:
            for no, epoch in enumerate(Epoch.objects.filter(ledger=self.ledger).order_by("no"), start=1):
                rows = self.read(expected, epoch.to_seq)
                leaves = leaves_of(self.ledger, rows[rows["seq"] >= epoch.from_seq])
                roots.append((epoch, pool.submit(_root, leaves)))
                self.check_epoch(epoch, no, expected, prev_root, len(leaves))
                expected, prev_root = max(expected, epoch.to_seq + 1), bytes(epoch.root)
            while expected < next_seq:
                last = min(expected + READ_AT_ONCE, next_seq) - 1
                self.read(expected, last)
                expected = last + 1
            self.check_nothing_follows(next_seq)
            self.check_rooms([*self.open_run, np.zeros_like(self.open_run[0])])
            self.check_ids()
            self.check_accounts()
            for epoch, root in roots:
                if root.result() != bytes(epoch.root):
                    self.fault("epochs", _named(epoch, "its transfers give another root"))
        return [
            Finding(invariant, what not in self.wrong, f"ledger {self.ledger}: " + (
                f"not so that {sentence}: {self.wrong[what]}" if what in self.wrong else sentence))
            for what, (invariant, sentence) in _LOOKS.items()
        ]  # fmt: skip

    def fault(self, what: str, detail: str) -> None:
        """Keep the first that is wrong of its kind."""
        self.wrong.setdefault(what, detail)

    # -- one run of rows ---------------------------------------------------------------------------------------------

    def read(self, first: int, last: int) -> Rows:
        """Read the transfers of a run of numbers and fold them in."""
        rows = read_transfers(self.ledger, first, last)
        numbers = rows["seq"].astype(np.int64)
        off = np.flatnonzero(numbers != np.arange(first, first + len(rows)))
        if len(off):
            self.fault("numbers", f"number {first + off[0]}: transfer {numbers[off[0]]} stands there")
        elif len(rows) != last - first + 1:
            self.fault("numbers", f"number {first + len(rows)} is missing")
        if len(rows):
            self.fold(rows, numbers)
        return rows

    def fold(self, rows: Rows, numbers: Ints) -> None:
        """Add what the rows move to every counter, and judge each floor at the end of each call."""
        halves = np.ascontiguousarray(rows["id"]).view(">u8").reshape(-1, 2).astype(np.uint64)
        self.keys.append(np.column_stack([halves, numbers.astype(np.uint64)]))
        kind, amount = rows["kind"] - 1, rows["amount"].astype(np.int64)
        posted = np.where((kind == _POSTED) | (kind == _POST), amount, 0)
        pending = np.where(kind == _PENDING, amount, 0)
        for place in np.flatnonzero((kind != _POSTED) | (rows["has_link"] != 0)).tolist():
            row = dict(zip(FIELDS, rows[place].item(), strict=True))
            if row["has_link"]:
                self.join(row)
            if row["kind"] - 1 != _POSTED:
                pending[place] = self.hold(row)
        moved = []
        for side, code in ((0, "debit"), (1, "credit")):
            account, known = self.places(rows[code].astype(np.int64))
            for place in np.flatnonzero(~known)[:1].tolist():
                self.fault("accounts", f"transfer {numbers[place]}: {code} {rows[code][place]} is no account of it")
            account, gained, reserved = account[known], posted[known], pending[known]
            for column, change in ((side, gained), (side + 2, reserved)):
                self.add(column, account, change)
            self.touched[account] = True
            grows, shrinks = (self.is_debit, self.is_credit) if code == "debit" else (self.is_credit, self.is_debit)
            change = np.where(grows[account], gained, np.where(shrinks[account], -gained - reserved, 0))
            moved.append((account, change, numbers[known], np.flatnonzero(known)))
        self.check_programmes(rows, numbers)
        self.close_runs(rows["posted_at"].astype(np.int64), moved)

    def add(self, column: int, account: Ints, change: Ints) -> None:
        """Add changes to one counter of many accounts: upper and lower halves, so few that their sums are exact."""
        if not change.any():
            return
        for first in range(0, len(change), _EXACT_AT_ONCE):
            some, of = change[first : first + _EXACT_AT_ONCE], account[first : first + _EXACT_AT_ONCE]
            upper = np.bincount(of, some >> 32, len(self.ids))
            lower = np.bincount(of, some & 0xFFFF_FFFF, len(self.ids))
            self.sums[:, column] += (upper.astype(np.int64) << 32) + lower.astype(np.int64)
            self.about[:, column] += upper * 2.0**32 + lower

    def places(self, accounts: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return where each account stands in our list, and whether it does."""
        if not len(self.ids):
            return np.zeros_like(accounts), np.zeros(len(accounts), bool)
        place = np.minimum(np.searchsorted(self.ids, accounts), len(self.ids) - 1)
        return place, self.ids[place] == accounts

    def close_runs(self, times: Ints, moved: list[tuple[Ints, Ints, Ints, Ints]]) -> None:
        """Judge the calls that are whole by now. One call has one time and is netted; its last may go on beyond."""
        run_of_row = np.cumsum(np.concatenate([[times[0] != self.open_since], times[1:] != times[:-1]]))
        last = int(run_of_row[-1])
        before = [*self.open_run, np.zeros_like(self.open_run[0])]
        after = [np.concatenate([*(side[column] for side in moved)]) for column in range(4)]
        after[3] = run_of_row[after[3]]
        events = [np.concatenate(pair) for pair in zip(before, after, strict=True)]
        is_open = events[3] == last
        self.open_run, self.open_since = [column[is_open] for column in events[:3]], int(times[-1])
        self.check_rooms([column[~is_open] for column in events])

    def check_rooms(self, events: list[Ints]) -> None:
        """Walk through whole calls, account by account, and name the first that went below its floor.

        An event is an account, what it adds to the room above the floor, the transfer's number and the call's.
        """
        if not len(events[0]):
            return
        # A transfer meets an account once, so that account and number together stand in one order: one word, one sort.
        order = np.argsort((events[0] << 40) | (events[2] - events[2].min()))
        account, change, number, run = (column[order] for column in events)
        is_last = np.append(account[1:] != account[:-1], True)
        first = np.flatnonzero(np.append(True, is_last[:-1]))
        total = np.cumsum(change)
        base = np.repeat(total[first] - change[first], np.diff(np.append(first, len(account))))
        room = total - base + self.room[account]
        ends = is_last | np.append(run[1:] != run[:-1], True)
        below = np.flatnonzero(ends & (room < 0))
        if len(below):
            place = below[np.argmin(number[below])]
            where = self.accounts[account[place]]
            self.fault("floors", f"transfer {number[place]} on account {where.id} {where.code} (room {room[place]})")
        self.room[account[is_last]] = room[is_last]

    # -- rows that are looked at one by one --------------------------------------------------------------------------

    def join(self, row: dict[str, Any]) -> None:
        """Count a member of a linked group."""
        group = self.groups.setdefault(row["link"], [0, row["posted_at"], row["seq"]])
        group[0] += 1
        if group[1] != row["posted_at"]:
            self.fault("links", f"link {UUID(bytes=row['link'])}: transfer {row['seq']} came later")

    def hold(self, row: dict[str, Any]) -> int:
        """Return what a hold, or the end of one, adds to what is reserved."""
        kind, amount = row["kind"] - 1, int(row["amount"])
        terms = (row["debit"], row["credit"], row["origin"], row["timeout_at"], amount)
        if kind == _PENDING:
            self.holds[row["id"]] = terms
            return amount
        named = f"transfer {row['seq']}, hold {UUID(bytes=row['pending_id'])}"
        if (hold := self.holds.get(row["pending_id"])) is None:
            self.fault("holds", f"{named}: there is none")
            return 0
        reserved, timeout = hold[4], hold[3]
        if row["pending_id"] in self.ended:
            self.fault("holds", f"{named}: it had ended")
        self.ended.add(row["pending_id"])
        is_over = timeout != NO_TIME and timeout <= row["posted_at"]
        is_like = hold[:2] == terms[:2] and (amount == reserved if kind != _POST else amount <= reserved)
        if not is_like or is_over != (kind == _EXPIRE):
            self.fault("holds", f"{named}: {KINDS[kind]} of {amount} where {reserved} were reserved")
        if hold[2] != terms[2]:
            self.fault("origins", f"transfer {row['seq']} is not of the origin of its hold")
        return -int(reserved)

    def check_programmes(self, rows: Rows, numbers: Ints) -> None:
        debit, origins = rows["debit"].astype(np.int64), rows["origin"] - 1
        for account in self.accounts:
            if (origin := ORIGIN_OF_PROGRAMME.get(account.code)) is not None:
                spent = (debit == account.id) & (origins != ORIGINS.index(origin.value))
                for place in np.flatnonzero(spent)[:1].tolist():
                    self.fault("origins", f"transfer {numbers[place]} out of {account.code}")

    # -- at the end --------------------------------------------------------------------------------------------------

    def check_epoch(self, epoch: Epoch, no: int, expected: int, prev_root: bytes, rows: int) -> None:
        """Judge everything about an epoch but its root, when all rows up to its end are folded in."""
        faults = []
        if epoch.no != no:
            faults.append(f"epoch {no} is missing")
        if epoch.from_seq != expected:
            faults.append(f"starts at {epoch.from_seq}, not at {expected}")
        if bytes(epoch.prev_root) != prev_root:
            faults.append("does not carry the root before it")
        if rows != epoch.n:
            faults.append(f"has {rows} transfers, not {epoch.n}")
        totals = np.column_stack([self.ids, self.sums])[self.touched].astype(">i8")
        if keccak(totals.tobytes()) != bytes(epoch.totals_hash):
            faults.append("its balances give another hash")
        if faults:
            self.fault("epochs", _named(epoch, "; ".join(faults)))

    def check_nothing_follows(self, next_seq: int) -> None:
        beyond = Transfer.objects.filter(ledger=self.ledger, seq__gte=next_seq).order_by("seq").first()
        if beyond is not None:
            self.fault("numbers", f"number {beyond.seq} was not given yet, {next_seq} is the next")

    def check_ids(self) -> None:
        for link, (members, _, first) in self.groups.items():
            if members < 2:
                self.fault("links", f"link {UUID(bytes=link)}: transfer {first} stands alone")
        if not self.keys:
            return
        keys = np.concatenate(self.keys)
        mixed = np.sort(keys[:, 0] * _ODD + keys[:, 1])
        if (mixed[1:] != mixed[:-1]).all():  # ids that are equal are equal mixed; only then is it worth naming them
            return
        keys = keys[np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))]
        again = np.flatnonzero((keys[1:, :2] == keys[:-1, :2]).all(axis=1))
        if len(again):
            self.fault("ids", f"transfer {int(keys[again + 1, 2].min())} has the id of an older one")

    def check_accounts(self) -> None:
        names = _ACCOUNT[3:]
        kept = [[getattr(account, name) for name in names] for account in self.accounts]
        for account, counters, history in zip(self.accounts, kept, self.sums.tolist(), strict=True):
            if counters != history:
                each = zip(names, counters, history, strict=True)
                parts = (f"{name} {have}, history {want}" for name, have, want in each if have != want)
                self.fault("counters", f"account {account.id} {account.code} ({'; '.join(parts)})")
        debits, credits, pending_debits, pending_credits = (sum(column) for column in zip([0] * 4, *kept, strict=True))
        if debits != credits or pending_debits != pending_credits:
            self.fault("sides", f"debits {debits}, credits {credits}; pending {pending_debits}, {pending_credits}")
        # The sums are exact but wrap, the inexact ones never wrap: what lies between the two is whole turns of 64 bits.
        turns = np.rint((self.about - self.sums) / 2.0**64)
        for place in np.flatnonzero(turns.any(axis=1))[:1].tolist():
            self.fault("width", f"account {self.accounts[place].id} {self.accounts[place].code}")


def _root(leaves: Bytes) -> bytes:
    return merkle_root(keccak_many(leaves))


def _named(epoch: Epoch, fault: str) -> str:
    return f"epoch {epoch.no} ({epoch.from_seq} to {epoch.to_seq}): {fault}"
