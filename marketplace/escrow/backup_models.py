"""Backups that stepped in: who took over the rest of a failed lease's hours, with which money, or why nobody did."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.clearing.models import Award, Clearing
from marketplace.demand.models import Demand
from marketplace.escrow.models import Lease, Mandate
from marketplace.supply.models import Bid

# returning: the rest of the failed lease's fee is on its way back; locking: it is being locked for the backup;
# fallen: it came back and was not locked, so the buyer has it
STEP_IN_STATES = ("refused", "returning", "locking", "running", "fallen")
STEPPED_IN = tuple(state for state in STEP_IN_STATES if state != "refused")


class StepIn(models.Model):
    """What became of one failure of a lease that had a backup. The failed lease ends where the backup begins."""

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="step_ins")
    failed_at = models.DateTimeField()
    from_slot = models.IntegerField(help_text="the first hour that was to move")
    state = models.CharField(max_length=10, choices=[(s, s) for s in STEP_IN_STATES])
    code = models.CharField(max_length=40, default="", blank=True, help_text="the rule that kept the backup out")
    sentence = models.CharField(max_length=300, default="", blank=True)
    rest_micros = models.BigIntegerField(default=0, help_text="of the failed lease's fee, for the hours that moved")
    returned_micros = models.BigIntegerField(default=0, help_text="of the rest, what credits had not sent back before")
    extra_micros = models.BigIntegerField(default=0, help_text="of the buyer's free money, inside the demand's limit")
    fee_micros = models.BigIntegerField(default=0, help_text="of the same hours at the agreed price")
    spent_micros = models.BigIntegerField(default=0, help_text="what all else of the demand costs")
    hold_micros = models.BigIntegerField(default=0, help_text="the most that the demand may cost: what was held")
    mandate = models.ForeignKey(Mandate, null=True, blank=True, on_delete=models.PROTECT, related_name="step_ins")
    return_key = models.CharField(max_length=120, default="", blank=True, help_text="the settle call that gives back")
    decided_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="when its lock was final, or was refused")

    class Meta:
        ordering = ["-decided_at", "id"]
        constraints = [
            models.UniqueConstraint(name="one_decision_per_failure", fields=["lease", "failed_at"]),
            models.UniqueConstraint(
                name="a_lease_is_stepped_in_for_once", fields=["lease"], condition=~Q(state="refused")
            ),
            models.CheckConstraint(name="step_in_state_is_known", condition=Q(state__in=STEP_IN_STATES)),
            models.CheckConstraint(
                name="step_in_that_does_not_run_says_why",
                condition=(Q(state__in=("refused", "fallen")) & ~Q(code=""))
                | (Q(state__in=("returning", "locking", "running")) & Q(code="")),
            ),
            models.CheckConstraint(
                name="step_in_moves_no_negative_amount",
                condition=Q(rest_micros__gte=0, returned_micros__gte=0, extra_micros__gte=0, fee_micros__gte=0),
            ),
            models.CheckConstraint(
                name="step_in_is_paid_by_what_came_back",
                condition=Q(returned_micros__lte=F("rest_micros"))
                & Q(fee_micros__lte=F("returned_micros") + F("extra_micros")),
            ),
            models.CheckConstraint(
                name="step_in_costs_no_more_than_was_held",
                condition=Q(state="refused") | Q(hold_micros__gte=F("spent_micros") + F("fee_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"backup of {self.lease}: {self.state}"


def given_back_micros(lease: Lease) -> int:
    """What of a lease's fee its backup took along, micro-USD: it left the lease's escrow, or is on its way."""
    moved = StepIn.objects.filter(lease=lease, state__in=STEPPED_IN).first() if lease.ended_slot is not None else None
    return moved.returned_micros if moved else 0


class StepInRun(models.Model):
    """A run of slots of an award that a backup serves with the same units: what an award is to a lease.

    It has an award's columns, so that the database judges it by the same functions.
    """

    id = models.UUIDField(primary_key=True)
    step_in = models.ForeignKey(StepIn, on_delete=models.PROTECT, related_name="runs")
    award = models.OneToOneField(Award, on_delete=models.PROTECT, related_name="taken_over")
    demand = models.ForeignKey(Demand, on_delete=models.PROTECT, related_name="backup_runs")
    bid = models.ForeignKey(Bid, on_delete=models.PROTECT, related_name="backup_runs")
    start_slot = models.IntegerField()
    end_slot = models.IntegerField()
    units = models.BigIntegerField()
    slot_prices_micros = models.JSONField(help_text="micro-USD per unit-hour, one entry a slot: the strike price")
    amount_micros = models.BigIntegerField()

    class Meta:
        ordering = ["step_in", "bid", "start_slot", "id"]
        constraints = [
            models.CheckConstraint(
                name="backup_run_has_units_and_money", condition=Q(units__gte=1) & Q(amount_micros__gte=1)
            ),
            models.CheckConstraint(name="backup_run_runs_forward", condition=Q(start_slot__lt=F("end_slot"))),
        ]

    @property
    def clearing(self) -> Clearing:
        """The clearing at which the backup was agreed."""
        return self.award.clearing
