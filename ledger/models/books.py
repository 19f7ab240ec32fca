"""The tables of the books and of the outbox.

Transfers, counters and epochs are written by SQL functions (`migrations/0002_posting.py`), never through these classes:
the classes are for reading. A table that is led by `ledger` keeps every key inside one ledger, so a ledger can be moved
to another server whole.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q

from ledger.chart import CHART, Floor, Kind, Origin, Side


def _codes(**wanted: object) -> list[str]:
    return [
        code for code, entry in CHART.items() if all(getattr(entry, name) == value for name, value in wanted.items())
    ]


# Both accounts of a transfer. `alias(touched=TOUCHED).filter(touched__overlap=[...])` finds by either, by index.
TOUCHED = Func(
    F("debit"), F("credit"), template="ARRAY[%(expressions)s]", output_field=ArrayField(models.BigIntegerField())
)


class Ledger(models.Model):
    """One ledger per asset. `next_seq` is the number that the next transfer takes."""

    id = models.IntegerField(primary_key=True)
    asset = models.TextField(unique=True)
    next_seq = models.BigIntegerField(default=1)
    halted = models.BooleanField(default=False)
    halted_reason = models.TextField(default="", blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="ledger_numbers_from_one", condition=Q(next_seq__gte=1)),
            models.CheckConstraint(
                name="ledger_halt_has_a_reason", condition=Q(halted=False) | ~Q(halted_reason="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.asset} ({self.pk})"


class Account(models.Model):
    """One account of the chart in one ledger, with its counters in minor units of the ledger's asset."""

    id = models.BigIntegerField(primary_key=True)
    ledger = models.ForeignKey(
        Ledger, on_delete=models.PROTECT, db_column="ledger", related_name="accounts", db_index=False
    )
    code = models.TextField()
    party = models.UUIDField(null=True)
    scope = models.UUIDField(null=True)
    floor = models.TextField()
    debits_posted = models.BigIntegerField(default=0)
    credits_posted = models.BigIntegerField(default=0)
    debits_pending = models.BigIntegerField(default=0)
    credits_pending = models.BigIntegerField(default=0)
    version = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(name="account_by_party", fields=["party", "code"])]
        constraints = [
            models.UniqueConstraint(
                name="account_exists_once", fields=["ledger", "code", "party", "scope"], nulls_distinct=False
            ),
            # A difference of two counters always fits 64 bits, their sum need not: too little money must not look like
            # too large an amount.
            models.CheckConstraint(
                name="account_never_spends_more_than_it_holds",
                condition=~Q(floor=Floor.CREDIT.value)
                | Q(debits_pending__lte=F("credits_posted") - F("debits_posted")),
            ),
            models.CheckConstraint(
                name="account_never_gives_more_than_it_took",
                condition=~Q(floor=Floor.DEBIT.value)
                | Q(credits_pending__lte=F("debits_posted") - F("credits_posted")),
            ),
            models.CheckConstraint(
                name="account_counters_are_never_negative",
                condition=Q(debits_posted__gte=0, credits_posted__gte=0, debits_pending__gte=0, credits_pending__gte=0),
            ),
            # Looked at again whenever a counter moves: the cheap half of each pair stands first, so that one list of
            # codes is read and not two.
            models.CheckConstraint(
                name="account_floor_follows_the_chart",
                condition=(Q(floor=Floor.CREDIT.value) & Q(code__in=_codes(floor=Floor.CREDIT)))
                | (Q(floor=Floor.DEBIT.value) & Q(code__in=_codes(floor=Floor.DEBIT)))
                | (Q(floor=Floor.NONE.value) & Q(code__in=_codes(floor=Floor.NONE))),
            ),
            models.CheckConstraint(
                name="account_party_follows_the_chart",
                condition=(Q(party__isnull=False) & Q(code__in=_codes(has_party=True)))
                | (Q(party__isnull=True) & Q(code__in=_codes(has_party=False))),
            ),
            models.CheckConstraint(
                name="account_scope_follows_the_chart",
                condition=(Q(scope__isnull=False) & Q(code__in=_codes(has_scope=True)))
                | (Q(scope__isnull=True) & Q(code__in=_codes(has_scope=False))),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} ({self.pk})"

    @property
    def balance_minor(self) -> int:
        """What is posted, on the account's normal side; for an asset account that is what it has."""
        difference = self.credits_posted - self.debits_posted
        return difference if CHART[self.code].side is Side.CREDIT else -difference

    @property
    def free_minor(self) -> int:
        """The balance less what pending transfers have reserved out of it."""
        reserved = self.debits_pending if CHART[self.code].side is Side.CREDIT else self.credits_pending
        return self.balance_minor - reserved


class Transfer(models.Model):
    """One movement of one amount from a debit to a credit account. Append-only; written by `post_transfers`.

    `debit`, `credit` and `ledger` are plain numbers, not foreign keys: the function checks them for a whole batch at
    once, where a key would be looked up row by row.
    """

    pk = models.CompositePrimaryKey("ledger", "id")
    ledger = models.IntegerField()
    id = models.UUIDField()
    seq = models.BigIntegerField()
    debit = models.BigIntegerField()
    credit = models.BigIntegerField()
    amount = models.BigIntegerField()
    kind = models.TextField()
    code = models.SmallIntegerField()
    origin = models.TextField()
    pending_id = models.UUIDField(null=True)
    link = models.UUIDField(null=True)
    timeout_at = models.DateTimeField(null=True)
    reference = models.BinaryField(null=True)
    effective_at = models.DateTimeField()
    posted_at = models.DateTimeField()

    class Meta:
        indexes = [
            # Two trees by account cost as much as everything else about a posting. This one takes new rows into a list
            # and sorts them in later, many at a time; a search reads the list too.
            GinIndex(TOUCHED, name="transfer_by_account", fastupdate=True, gin_pending_list_limit=16_384),
            models.Index(name="transfer_by_link", fields=["ledger", "link"], condition=Q(link__isnull=False)),
            models.Index(
                name="transfer_by_timeout",
                fields=["ledger", "timeout_at"],
                condition=Q(kind=Kind.PENDING.value, timeout_at__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint(name="transfer_seq_is_taken_once", fields=["ledger", "seq"]),
            models.UniqueConstraint(
                name="transfer_pending_is_resolved_once",
                fields=["ledger", "pending_id"],
                condition=Q(pending_id__isnull=False),
            ),
            models.CheckConstraint(name="transfer_moves_a_positive_amount", condition=Q(amount__gt=0)),
            models.CheckConstraint(name="transfer_numbers_from_one", condition=Q(seq__gte=1)),
            models.CheckConstraint(name="transfer_has_two_different_accounts", condition=~Q(debit=F("credit"))),
            models.CheckConstraint(name="transfer_kind_is_known", condition=Q(kind__in=[kind.value for kind in Kind])),
            models.CheckConstraint(
                name="transfer_origin_is_known", condition=Q(origin__in=[origin.value for origin in Origin])
            ),
            models.CheckConstraint(
                name="transfer_resolution_names_its_pending",
                condition=(Q(pending_id__isnull=False) & Q(kind__in=["post", "void", "expire"]))
                | (Q(pending_id__isnull=True) & Q(kind__in=["posted", "pending"])),
            ),
            models.CheckConstraint(
                name="transfer_only_a_pending_times_out", condition=Q(timeout_at__isnull=True) | Q(kind="pending")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.ledger}/{self.seq}"


class Epoch(models.Model):
    """A sealed run of transfers with the root of their hashes. Append-only; its anchor on chain is `EpochAnchor`."""

    pk = models.CompositePrimaryKey("ledger", "no")
    ledger = models.IntegerField()
    no = models.BigIntegerField()
    from_seq = models.BigIntegerField()
    to_seq = models.BigIntegerField()
    n = models.BigIntegerField()
    root = models.BinaryField()
    prev_root = models.BinaryField()
    totals_hash = models.BinaryField()
    closed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="epoch_starts_once", fields=["ledger", "from_seq"]),
            models.CheckConstraint(name="epoch_numbers_from_one", condition=Q(no__gte=1)),
            models.CheckConstraint(
                name="epoch_counts_its_transfers", condition=Q(n__gte=1) & Q(n=F("to_seq") - F("from_seq") + 1)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.ledger}/{self.no}"


class EpochAnchor(models.Model):
    """The chain transaction that made an epoch's root public; a row is written when it is final."""

    pk = models.CompositePrimaryKey("ledger", "no")
    ledger = models.IntegerField()
    no = models.BigIntegerField()
    tx_hash = models.TextField()
    block_number = models.BigIntegerField()
    anchored_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.ledger}/{self.no} in {self.tx_hash}"


class Outbox(models.Model):
    """One job, written in the transaction of the change that asks for it. The broker only carries its id as a hint."""

    id = models.UUIDField(primary_key=True)
    kind = models.TextField()
    payload = models.JSONField()
    dedupe_key = models.TextField(unique=True)
    run_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True)
    tries = models.IntegerField(default=0)
    last_error = models.TextField(default="", blank=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(name="outbox_open_by_time", fields=["run_at", "id"], condition=Q(done_at__isnull=True))]
        constraints = [models.CheckConstraint(name="outbox_tries_are_never_negative", condition=Q(tries__gte=0))]

    def __str__(self) -> str:
        return f"{self.kind} {self.dedupe_key}"


class Inbox(models.Model):
    """One event that somebody sent us, kept before we answer; an outbox job works on it."""

    source = models.TextField()
    event_id = models.TextField()
    body = models.BinaryField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="inbox_keeps_an_event_once", fields=["source", "event_id"])]

    def __str__(self) -> str:
        return f"{self.source} {self.event_id}"


class Reconciliation(models.Model):
    """One comparison of the books with the chain at one finalized block: all figures, and the differences found."""

    ledger = models.ForeignKey(Ledger, on_delete=models.PROTECT, db_column="ledger", related_name="reconciliations")
    block_number = models.BigIntegerField()
    block_hash = models.TextField()
    figures = models.JSONField()
    differences = models.JSONField()
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"block {self.block_number}: {len(self.differences)} differences"
