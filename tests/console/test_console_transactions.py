"""Transactions under way on the console: attempts, fees, trouble, and a cancel that leaves its trail."""

from __future__ import annotations

from django.test import Client

from ledger.ids import uuid7
from ledger.models import ChainAttempt, ChainIntent
from marketplace import models as m
from tests.doors.factories import NOW, Market

GWEI = 10**9


def a_call(key: str, *fees_gwei: int, **facts: object) -> ChainIntent:
    row = {"id": uuid7(NOW), "key": key, "role": "operator", "contract": "escrow", "function": "settle",
           "to_address": "0x1", "calldata": b"", "created_at": NOW, "state": "sent",
           "nonce": 900 + len(key)}  # fmt: skip
    intent = ChainIntent.objects.create(**row | facts)
    for fee in fees_gwei:
        ChainAttempt.objects.create(intent=intent, nonce=intent.nonce, raw=b"", tx_hash=f"0x{key}{fee:060x}",
                                    max_fee=fee * GWEI, tip=GWEI, created_at=NOW)  # fmt: skip
    return intent


def page(staff: Client) -> str:
    answer = staff.get("/console/transactions/")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_stuck_call_shows_its_trouble_its_attempts_and_their_fees(staff: Client) -> None:
    a_call("aa", 20, 23, trouble="stuck: a replacement would pay too much", trouble_at=NOW)
    text = page(staff)
    for said in ("escrow.settle", "stuck: a replacement would pay too much", "20 gwei, tip 1", "23 gwei, tip 1"):
        assert said in text


def test_a_cancel_is_asked_for_once_and_stands_in_the_audit_trail(staff: Client, market: Market) -> None:
    intent = a_call("aaa", 20)
    address = f"/console/transactions/{intent.pk}/cancel/"
    assert "This will happen" in staff.get(address).content.decode()
    intent.refresh_from_db()
    assert intent.cancel_asked_at is None, "looking changes nothing"

    staff.post(address)

    intent.refresh_from_db()
    assert (intent.cancel_asked_by, intent.state) == ("staff@console.example", "sent")
    line = m.AuditLine.objects.get(action="cancel_transaction")
    assert (line.actor, line.subject) == ("staff@console.example", "aaa")
    assert "being cancelled" in page(staff)


def test_a_call_that_was_never_signed_ends_at_once(staff: Client) -> None:
    intent = a_call("queued one", state="queued", nonce=None)
    staff.post(f"/console/transactions/{intent.pk}/cancel/")
    intent.refresh_from_db()
    assert (intent.state, intent.revert_reason) == ("reverted", "cancelled by staff@console.example")


def test_what_has_ended_cannot_be_cancelled_and_nothing_is_written(staff: Client) -> None:
    intent = a_call("ended", 20, state="final", tx_hash="0x9", block_number=1)
    answer = staff.post(f"/console/transactions/{intent.pk}/cancel/", follow=True)
    assert "cancel_too_late" in answer.content.decode()
    assert not m.AuditLine.objects.filter(action="cancel_transaction").exists()


def test_only_the_foundation_sees_and_cancels(market: Market) -> None:
    intent = a_call("mine", 20)
    client = Client()
    client.force_login(m.User.objects.get(email="buyer@console.example"))
    for address in ("/console/transactions/", f"/console/transactions/{intent.pk}/cancel/"):
        assert client.get(address).status_code in (302, 403, 404)
    client.post(f"/console/transactions/{intent.pk}/cancel/")
    intent.refresh_from_db()
    assert intent.cancel_asked_at is None
