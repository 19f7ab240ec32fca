"""The tables of the rails: what was meant, sent and seen at the card processor and on the chain."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class CardIntent(models.Model):
    """One thing we mean to do with card money, committed before it is done; `id` is the idempotency key.

    A deposit opens a payment page, a refund gives part of a deposit back, an exchange brings a deposit's money into
    escrow (by us, on chain; the processor is not asked). A takeover turns a node class's (`scope`) coins into dollars,
    on chain too, and a payout transfers such dollars to its provider's account at the processor. Amounts are cents.
    """

    class Kind(models.TextChoices):
        DEPOSIT = "deposit"
        REFUND = "refund"
        EXCHANGE = "exchange"
        TAKEOVER = "takeover"
        PAYOUT = "payout"

    class State(models.TextChoices):
        QUEUED = "queued"  # nobody was asked yet, or the answer is not known
        OPEN = "open"  # the processor (or the sender) has it
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True)
    key = models.TextField()
    kind = models.TextField(choices=Kind)
    party = models.UUIDField(db_index=True)
    scope = models.UUIDField(null=True)
    cents = models.BigIntegerField()
    reversed_cents = models.BigIntegerField(default=0)
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    state = models.TextField(choices=State, default=State.QUEUED)
    attempt = models.IntegerField(default=0)  # a further key, once the work of the one before is proven not made
    broken_since = models.DateTimeField(null=True)  # the first 5xx answer to the present key
    processor_id = models.TextField(null=True)
    payment_id = models.TextField(null=True)
    url = models.TextField(default="", blank=True)
    return_url = models.TextField(default="", blank=True)
    reason = models.TextField(default="", blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                name="card_intent_unended", fields=["created_at", "id"], condition=Q(state__in=["queued", "open"])
            )
        ]
        constraints = [
            models.UniqueConstraint(name="card_intent_key_is_used_once", fields=["key"]),
            models.UniqueConstraint(name="card_object_belongs_to_one_intent", fields=["processor_id"]),
            models.UniqueConstraint(name="card_payment_belongs_to_one_intent", fields=["payment_id"]),
            models.CheckConstraint(
                name="card_intent_kind_is_known",
                condition=Q(kind__in=["deposit", "refund", "exchange", "takeover", "payout"]),
            ),
            models.CheckConstraint(
                name="card_intent_state_is_known", condition=Q(state__in=["queued", "open", "done", "failed"])
            ),
            models.CheckConstraint(name="card_intent_moves_some_money", condition=Q(cents__gte=1)),
            models.CheckConstraint(
                name="card_intent_reverses_no_more_than_it_moved",
                condition=Q(reversed_cents__gte=0) & Q(reversed_cents__lte=F("cents")),
            ),
            models.CheckConstraint(name="card_intent_attempts_count_up", condition=Q(attempt__gte=0)),
            models.CheckConstraint(
                name="card_intent_stands_where_its_kind_says",
                condition=Q(kind="deposit", parent__isnull=True, scope__isnull=True)
                | Q(kind__in=["refund", "exchange"], parent__isnull=False, scope__isnull=True)
                | Q(kind__in=["takeover", "payout"], parent__isnull=True, scope__isnull=False),
            ),
            models.CheckConstraint(
                name="card_intent_under_way_is_known_there",
                condition=Q(state__in=["queued", "failed"])
                | Q(kind__in=["exchange", "takeover"])
                | Q(processor_id__isnull=False),
            ),
            models.CheckConstraint(
                name="card_intent_ends_at_a_time",
                condition=Q(state__in=["done", "failed"], ended_at__isnull=False)
                | (~Q(state__in=["done", "failed"]) & Q(ended_at__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key} {self.state}"


class BankAccount(models.Model):
    """A provider's account at the card processor, from which its bank is paid; `id` is the idempotency key.

    `is_chosen` says whether payouts go there or stay coins in the provider's wallet, `wallet` which address that is.
    """

    class State(models.TextChoices):
        QUEUED = "queued"  # nobody was asked yet, or the answer is not known
        OPEN = "open"  # the holder has not given all details, or they are being checked
        READY = "ready"
        DISABLED = "disabled"
        REFUSED = "refused"  # the processor made no account

    id = models.UUIDField(primary_key=True)
    party = models.UUIDField()
    country = models.TextField()
    wallet = models.TextField()
    is_chosen = models.BooleanField(default=True)
    state = models.TextField(choices=State, default=State.QUEUED)
    attempt = models.IntegerField(default=0)
    broken_since = models.DateTimeField(null=True)
    processor_id = models.TextField(null=True)
    missing = models.JSONField(default=list)
    reason = models.TextField(default="", blank=True)
    return_url = models.TextField()
    links_asked = models.IntegerField(default=0)
    link_url = models.TextField(default="", blank=True)
    link_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="bank_account_is_one_per_party", fields=["party"]),
            models.UniqueConstraint(name="bank_account_object_belongs_to_one_party", fields=["processor_id"]),
            models.CheckConstraint(
                name="bank_account_state_is_known",
                condition=Q(state__in=["queued", "open", "ready", "disabled", "refused"]),
            ),
            models.CheckConstraint(
                name="bank_account_in_use_is_known_there",
                condition=Q(state__in=["queued", "refused"]) | Q(processor_id__isnull=False),
            ),
            models.CheckConstraint(
                name="bank_account_that_cannot_be_paid_says_why",
                condition=~Q(state__in=["disabled", "refused"]) | ~Q(reason=""),
            ),
            models.CheckConstraint(
                name="bank_account_counters_are_never_negative", condition=Q(attempt__gte=0, links_asked__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.party} {self.state}"


class CardTransaction(models.Model):
    """One line of our balance at the card processor, as it was read there; the books are matched with these."""

    id = models.TextField(primary_key=True)
    kind = models.TextField()
    source = models.TextField()
    amount_cents = models.BigIntegerField()
    fee_cents = models.BigIntegerField()
    net_cents = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="card_transaction_by_time", fields=["created_at"])]
        constraints = [
            models.CheckConstraint(
                name="card_transaction_net_is_amount_less_fee",
                condition=Q(net_cents=F("amount_cents") - F("fee_cents")),
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class CardReconciliation(models.Model):
    """One comparison of `card.clearing` with the processor's balance and its lines, with the differences found."""

    books_cents = models.BigIntegerField()
    processor_cents = models.BigIntegerField()
    lines = models.BigIntegerField()
    differences = models.JSONField()
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.lines} lines: {len(self.differences)} differences"


class ChainContract(models.Model):
    """One contract of ours as deployed on the chain."""

    name = models.TextField(primary_key=True)
    address = models.TextField(unique=True)
    chain_id = models.BigIntegerField()
    abi_hash = models.TextField()
    deployed_block = models.BigIntegerField(null=True)
    tx_hash = models.TextField(null=True)

    def __str__(self) -> str:
        return f"{self.name} {self.address}"


class ChainAddress(models.Model):
    """Whose address this is (EIP-55 checksum form), and whether it buys or provides."""

    address = models.TextField(primary_key=True)
    party = models.UUIDField(db_index=True)
    role = models.TextField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="chain_address_buys_or_provides", condition=Q(role__in=["buyer", "provider"]))
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.role}"


class ChainClass(models.Model):
    """The number that a node class has on chain."""

    class_id = models.BigIntegerField(primary_key=True)
    provider = models.UUIDField(db_index=True)
    node_class = models.UUIDField(unique=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="chain_class_numbers_are_never_negative", condition=Q(class_id__gte=0))
        ]

    def __str__(self) -> str:
        return str(self.class_id)


class ChainIntent(models.Model):
    """One transaction that we mean to send, committed before anything is sent. `plan` is posted when it is final."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SIGNED = "signed"
        SENT = "sent"
        FINAL = "final"
        REVERTED = "reverted"

    id = models.UUIDField(primary_key=True)
    key = models.TextField(unique=True)
    role = models.TextField()
    contract = models.TextField()
    function = models.TextField()
    to_address = models.TextField()
    calldata = models.BinaryField()
    value_gwei = models.BigIntegerField(default=0)  # coin for the gas of another key of ours; calls carry none
    gas_limit = models.BigIntegerField(null=True)
    force = models.BooleanField(default=False)
    plan = models.JSONField(default=list)
    state = models.TextField(choices=State, default=State.QUEUED)
    nonce = models.BigIntegerField(null=True)
    tx_hash = models.TextField(null=True, unique=True)  # many have none yet
    block_number = models.BigIntegerField(null=True)
    gas_used = models.BigIntegerField(null=True)
    receipt = models.JSONField(null=True)
    revert_reason = models.TextField(default="", blank=True)
    trouble = models.TextField(default="", blank=True)  # why it does not come through; empty while all is well
    trouble_at = models.DateTimeField(null=True)  # since when
    cancel_asked_at = models.DateTimeField(null=True)
    cancel_asked_by = models.TextField(default="", blank=True)
    created_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                name="chain_intent_open",
                fields=["created_at", "id"],
                condition=Q(state__in=["queued", "signed", "sent"]),
            )
        ]
        constraints = [
            models.CheckConstraint(
                name="chain_intent_state_is_known",
                condition=Q(state__in=["queued", "signed", "sent", "final", "reverted"]),
            ),
            models.CheckConstraint(
                name="chain_intent_is_signed_with_a_nonce",
                condition=Q(state="queued") | Q(nonce__isnull=False, nonce__gte=0) | Q(state="reverted"),
            ),
            models.CheckConstraint(
                name="chain_intent_ends_in_a_block",
                condition=~Q(state="final") | Q(block_number__isnull=False, tx_hash__isnull=False),
            ),
            models.CheckConstraint(
                name="chain_intent_carries_coin_to_a_key_only",
                condition=Q(value_gwei=0) & ~Q(contract="coin")
                | Q(value_gwei__gte=1, contract="coin", role="funder", calldata=b""),
            ),
            # Two senders started by mistake cannot give one nonce of a key to two calls.
            models.UniqueConstraint(
                name="chain_nonce_belongs_to_one_intent", fields=["role", "nonce"], condition=Q(nonce__isnull=False)
            ),
            models.CheckConstraint(
                name="chain_cancel_names_its_person",
                condition=Q(cancel_asked_at__isnull=True, cancel_asked_by="")
                | Q(cancel_asked_at__isnull=False) & ~Q(cancel_asked_by=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.state}"


class ChainAttempt(models.Model):
    """One signed transaction of an intent: these bytes and no others may be sent for it. Fees are wei per gas."""

    class Kind(models.TextChoices):
        CALL = "call"
        CANCEL = "cancel"  # the same nonce spent on nothing

    intent = models.ForeignKey(ChainIntent, on_delete=models.PROTECT, related_name="attempts")
    nonce = models.BigIntegerField()
    raw = models.BinaryField()
    tx_hash = models.TextField(unique=True)
    kind = models.TextField(choices=Kind, default=Kind.CALL)
    max_fee = models.BigIntegerField(default=0)
    tip = models.BigIntegerField(default=0)
    refusal = models.TextField(default="", blank=True)  # what the node last said to these bytes
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="chain_attempt_nonce_is_never_negative", condition=Q(nonce__gte=0)),
            models.CheckConstraint(name="chain_attempt_kind_is_known", condition=Q(kind__in=["call", "cancel"])),
            models.CheckConstraint(
                name="chain_attempt_tip_lies_within_its_fee", condition=Q(tip__gte=0, tip__lte=models.F("max_fee"))
            ),
        ]

    def __str__(self) -> str:
        return self.tx_hash


class ChainEvent(models.Model):
    """One log of our contracts; `booked` says that the books know it, which they do of final ones only."""

    block_number = models.BigIntegerField()
    block_hash = models.TextField()
    log_index = models.IntegerField()
    tx_hash = models.TextField()
    contract = models.TextField()
    name = models.TextField()
    args = models.JSONField()
    final = models.BooleanField(default=True)
    booked = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(name="chain_event_by_block", fields=["block_number", "log_index"]),
            models.Index(name="chain_event_by_name", fields=["contract", "name"]),
        ]
        constraints = [
            models.UniqueConstraint(name="chain_event_is_kept_once", fields=["block_hash", "log_index"]),
            models.CheckConstraint(
                name="chain_event_is_booked_when_it_is_final", condition=Q(booked=False) | Q(final=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contract}.{self.name} {self.block_number}/{self.log_index}"


class ChainMark(models.Model):
    """How far a reader of the chain has come."""

    name = models.TextField(primary_key=True)
    block_number = models.BigIntegerField()
    block_hash = models.TextField()

    def __str__(self) -> str:
        return f"{self.name} at {self.block_number}"


class ChainBlock(models.Model):
    """A block above the finalized one as last seen. A reorganisation is noticed by its hash, and its events go."""

    number = models.BigIntegerField(primary_key=True)
    block_hash = models.TextField()
    parent_hash = models.TextField()

    def __str__(self) -> str:
        return f"{self.number} {self.block_hash}"


class KeyUse(models.Model):
    """One signature of a key, by the server's own clock: demo time must not loosen a limit. Kept for a day."""

    role = models.TextField()
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="key_use_by_role", fields=["role", "at"])]

    def __str__(self) -> str:
        return f"{self.role} at {self.at}"


class KeyCoin(models.Model):
    """What a key held for gas when its open calls were last looked at, and what they may cost at most. Gwei."""

    role = models.TextField(primary_key=True)
    address = models.TextField()
    held_gwei = models.BigIntegerField()  # rounded down
    needed_gwei = models.BigIntegerField()  # rounded up
    looked_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="key_coin_is_never_negative", condition=Q(held_gwei__gte=0, needed_gwei__gte=0)
            )
        ]

    @property
    def is_short(self) -> bool:
        """Whether the key cannot pay for all that waits."""
        return self.held_gwei < self.needed_gwei

    def __str__(self) -> str:
        return f"{self.role}: {self.held_gwei} of {self.needed_gwei} gwei"
