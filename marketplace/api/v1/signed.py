"""Signed statements of machines, verifiers and buyers: one door for each kind, and how far each chain is taken."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from marketplace.agent.readings import START, SignedReport
from marketplace.api.fields import Body, TextIn
from marketplace.api.schema import IDEMPOTENCY_KEY, act_answers
from marketplace.api.views import ActView, ApiView, found, key_of
from marketplace.delivery.checks import take_checks
from marketplace.delivery.intake import (
    counter_head,
    take_counter_readings,
    take_heartbeats,
    take_probes,
    take_readings,
)
from marketplace.delivery.models import ReportChain
from marketplace.delivery.rolls import take_measured, take_presences
from marketplace.delivery.selectors import find_lease_of_party
from marketplace.supply.selectors import find_node_class

BATCH_MAX = 100
TAG = ["delivery"]


class SignedIn(Body):
    """A statement's canonical JSON as text, and the signature over its prefix and those bytes."""

    body = TextIn(16_000)
    signature = TextIn(128, help_text="64 bytes in hex")


class StatementsIn(Body):
    """1 to 100 statements. All are taken or none; one that stands already is passed over."""

    statements = serializers.ListField(
        child=SignedIn(), allow_empty=False, max_length=BATCH_MAX,
        error_messages={"not_a_list": "Write a list of statements.", "empty": "Send at least one.",
                        "max_length": f"At most {BATCH_MAX} in one call."},
    )  # fmt: skip


class TakenOut(serializers.Serializer):
    """How many of the statements were new."""

    taken = serializers.IntegerField()
    passed_over = serializers.IntegerField(help_text="stood already")
    now_ms = serializers.IntegerField(help_text="the market's time")


class _Door(ActView):
    """A POST that takes signed statements. A statement that stands is passed over, so no reply is remembered."""

    body = StatementsIn
    is_idempotent = True
    is_under_caps = True
    take: ClassVar[Any]

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        given = fields["statements"]
        signed = [SignedReport(row["body"].encode(), hex_bytes(row["signature"])) for row in given]
        taken = type(self).take(party=request.party, signed=signed, now=request.now)
        now_ms = int(request.now.timestamp() * 1000)
        return 200, {"taken": taken, "passed_over": len(signed) - taken, "now_ms": now_ms}


def hex_bytes(text: str) -> bytes:
    """Return the bytes of a signature; what is no hex signs nothing."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class HeartbeatList(_Door):
    take = staticmethod(take_heartbeats)

    @extend_schema(operation_id="post_heartbeats", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Heartbeats of your machines, every 15 seconds."""
        return self.perform(request)


class ProbeReportList(_Door):
    take = staticmethod(take_probes)

    @extend_schema(operation_id="post_probe_reports", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you saw as a verifier, at the seconds you were ordered to look."""
        return self.perform(request)


class CheckList(_Door):
    take = staticmethod(take_checks)

    @extend_schema(operation_id="post_rechecks", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you measured of a running lease's machine, at the time you were ordered to."""
        return self.perform(request)


class RollAnswerList(_Door):
    take = staticmethod(take_presences)

    @extend_schema(operation_id="post_roll_answers", tags=["machines"], request=StatementsIn,
                   parameters=[IDEMPOTENCY_KEY], responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Your machines' own answers to the roll call that is open, signed by the machine key."""
        return self.perform(request)


class RollReportList(_Door):
    take = staticmethod(take_measured)

    @extend_schema(operation_id="post_roll_reports", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """What you measured of called machines, while their roll was open."""
        return self.perform(request)


class ReadingList(_Door):
    take = staticmethod(take_readings)

    @extend_schema(operation_id="post_readings", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Signed readings of whole slots by your machines, in the order of their chain; backfill too."""
        return self.perform(request)


class CounterReadingList(_Door):
    take = staticmethod(take_counter_readings)

    @extend_schema(operation_id="post_counter_readings", tags=TAG, request=StatementsIn, parameters=[IDEMPOTENCY_KEY],
                   responses=act_answers(200, TakenOut))  # fmt: skip
    def post(self, request: Any) -> Response:
        """Your own count of the leases that you buy: one witness beside the machine and the probes."""
        return self.perform(request)


class ChainOut(serializers.Serializer):
    """How far a chain of readings has been taken: the next one has the number after it and names this hash."""

    sequence = serializers.IntegerField()
    head = serializers.CharField()


class MachineChain(ApiView):
    @extend_schema(operation_id="get_reading_chain", tags=TAG, responses=ChainOut)
    def get(self, request: Any, node_class: str) -> Response:
        """Where the chain of one of your machines stands."""
        own = found(find_node_class(key_of(node_class, "cls"), request.party))
        chain = ReportChain.objects.filter(node_class=own).first()
        return Response({"sequence": chain.sequence if chain else 0, "head": chain.head if chain else START.hash})


class CounterChain(ApiView):
    @extend_schema(operation_id="get_counter_chain", tags=TAG, responses=ChainOut)
    def get(self, request: Any, lease: str) -> Response:
        """Where the chain of counter-readings of a lease that you buy stands."""
        row = found(find_lease_of_party(key_of(lease, "lea"), request.party))
        head = counter_head(found(row if row.buyer_id == request.party.pk else None))
        return Response({"sequence": head.sequence, "head": head.hash})
