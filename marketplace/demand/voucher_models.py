"""Grant vouchers: what a programme allocates, handed out by two people, good for demand and nothing else."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.demand.funding_models import FundingLine
from marketplace.parties.models import Party

VOUCHER_STATES = ("PROPOSED", "ISSUED", "REDEEMED", "CLOSING", "CLOSED", "WITHDRAWN")
REDEEMED_STATES = ("REDEEMED", "CLOSING", "CLOSED")


class GrantProgramme(models.Model):
    """An allocation of a funder such as NAIRR or EuroHPC, and how much of it a voucher and a buyer may get."""

    id = models.UUIDField(primary_key=True)
    code = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=120)
    funder = models.CharField(max_length=120)
    budget_micros = models.BigIntegerField()
    voucher_max_micros = models.BigIntegerField(help_text="the most of one voucher")
    party_max_micros = models.BigIntegerField(help_text="the most that one buyer may redeem")
    proposed_by = models.CharField(max_length=120)
    proposed_at = models.DateTimeField()
    approved_by = models.CharField(max_length=120, default="", blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(
                name="programme_limits_nest",
                condition=Q(voucher_max_micros__gte=1) & Q(voucher_max_micros__lte=F("party_max_micros"))
                & Q(party_max_micros__lte=F("budget_micros")),
            ),
            models.CheckConstraint(
                name="programme_is_approved_by_another",
                condition=Q(approved_at=None, approved_by="")
                | (~Q(approved_at=None) & ~Q(approved_by="") & ~Q(approved_by=F("proposed_by"))),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name


class Voucher(models.Model):
    """Credits of a programme for whoever shows its code; of the code only a hash is kept."""

    id = models.UUIDField(primary_key=True)
    programme = models.ForeignKey(GrantProgramme, on_delete=models.PROTECT, related_name="vouchers")
    for_party = models.ForeignKey(
        Party, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="who alone may redeem it"
    )
    amount_micros = models.BigIntegerField()
    valid_until = models.DateTimeField(help_text="what is not spent by then goes back to the programme")
    state = models.CharField(max_length=10, default="PROPOSED", choices=[(s, s) for s in VOUCHER_STATES])
    proposed_by = models.CharField(max_length=120)
    proposed_at = models.DateTimeField()
    approved_by = models.CharField(max_length=120, default="", blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    code_sha256 = models.BinaryField(max_length=32, null=True, unique=True)
    party = models.ForeignKey(Party, null=True, blank=True, on_delete=models.PROTECT, related_name="vouchers")
    line = models.OneToOneField(FundingLine, null=True, blank=True, on_delete=models.PROTECT, related_name="voucher")
    redeemed_at = models.DateTimeField(null=True, blank=True)
    returned_micros = models.BigIntegerField(default=0, help_text="what was not spent, back at the programme")
    attempt = models.PositiveSmallIntegerField(default=0, help_text="of taking it out of escrow")
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-proposed_at", "-id"]
        constraints = [
            models.CheckConstraint(name="voucher_state_is_known", condition=Q(state__in=VOUCHER_STATES)),
            models.CheckConstraint(
                name="voucher_has_an_amount",
                condition=Q(amount_micros__gte=1) & Q(returned_micros__gte=0)
                & Q(returned_micros__lte=F("amount_micros")),
            ),
            models.CheckConstraint(
                name="voucher_is_issued_by_another",
                condition=Q(state__in=("PROPOSED", "WITHDRAWN"))
                | (~Q(approved_by="") & ~Q(approved_by=F("proposed_by")) & ~Q(code_sha256=None)
                   & ~Q(approved_at=None)),
            ),
            models.CheckConstraint(
                name="redeemed_voucher_has_its_buyer_and_line",
                condition=(~Q(state__in=REDEEMED_STATES) & Q(party=None, line=None, redeemed_at=None))
                | (Q(state__in=REDEEMED_STATES) & ~Q(party=None) & ~Q(line=None) & ~Q(redeemed_at=None)),
            ),
            models.CheckConstraint(
                name="closed_voucher_says_when",
                condition=Q(state__in=("CLOSED", "WITHDRAWN"), closed_at__isnull=False)
                | (~Q(state__in=("CLOSED", "WITHDRAWN")) & Q(closed_at=None)),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"voucher {self.number}"

    @property
    def number(self) -> str:
        """What a buyer names when it funds a demand by it."""
        return f"{self.programme.code}-{self.pk.hex[-10:]}"
