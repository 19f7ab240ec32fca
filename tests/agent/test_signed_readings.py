"""Signed readings: the next report of a machine's chain is taken, anything else is refused by name."""

import json
from dataclasses import replace

import pytest

from marketplace.agent.errors import (
    ReadingForged,
    ReadingMalformed,
    ReadingOutOfSequence,
    ReadingRefused,
    ReadingReplayed,
)
from marketplace.agent.keys import create_key
from marketplace.agent.readings import SIGN_PREFIX, START, SignedReport, accept_report, sign_report
from pricing.metering import FULL_WORD, pack, unpack

SLOT = 1_790_000_000 // 3600 * 3600


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return create_key(tmp_path_factory.mktemp("key") / "home")


def chain_of(key, count, machine="m-1"):
    """Signed reports of consecutive slots."""
    head, reports = START, []
    for number in range(count):
        report, head = sign_report(
            key, lease="lease-1", machine=machine, slot_start_at=SLOT + 3600 * number, up_word=FULL_WORD, head=head
        )
        reports.append(report)
    return reports


def resigned(key, body: bytes) -> SignedReport:
    return SignedReport(body, key.sign(SIGN_PREFIX + body))


def taken(key, reports, head=START):
    for report in reports:
        found, head = accept_report(report, public_key=key.public_bytes, machine="m-1", head=head)
    return found, head


def test_a_chain_is_taken_report_by_report(key):
    report, head = taken(key, chain_of(key, 5))

    assert (report.sequence, head.sequence) == (5, 5)
    assert report.slot_start_at == SLOT + 4 * 3600
    assert report.up_word == FULL_WORD


def test_the_word_of_minutes_survives_the_wire(key):
    minutes = [minute % 7 != 0 for minute in range(60)]
    signed, _ = sign_report(key, lease="l", machine="m-1", slot_start_at=SLOT, up_word=int(pack(minutes)), head=START)
    report, _ = accept_report(signed, public_key=key.public_bytes, machine="m-1", head=START)

    assert unpack(report.up_word).tolist() == minutes
    assert type(json.loads(signed.body)["up_word"]) is str  # beyond 2^53 a JSON number is rounded by many readers


def test_a_forged_reading_is_refused(key, tmp_path):
    first, second = chain_of(key, 2)
    other = create_key(tmp_path / "other")
    changed = replace(first, body=first.body.replace(b"lease-1", b"lease-2"))

    for forged in (changed, replace(first, signature=second.signature), resigned(other, first.body)):
        with pytest.raises(ReadingForged):
            accept_report(forged, public_key=key.public_bytes, machine="m-1", head=START)
    with pytest.raises(ReadingForged, match="another machine"):
        accept_report(first, public_key=key.public_bytes, machine="m-2", head=START)
    assert taken(key, [first])


def test_a_replayed_reading_is_refused(key):
    reports = chain_of(key, 3)
    _, head = taken(key, reports)

    for report in reports:
        with pytest.raises(ReadingReplayed) as refusal:
            accept_report(report, public_key=key.public_bytes, machine="m-1", head=head)
        assert refusal.value.facts["taken"] == 3


def test_a_gap_is_refused_until_the_missing_report_comes(key):
    first, second, third = chain_of(key, 3)
    _, head = taken(key, [first])

    with pytest.raises(ReadingOutOfSequence) as refusal:
        accept_report(third, public_key=key.public_bytes, machine="m-1", head=head)
    assert refusal.value.facts["expected"] == 2
    assert taken(key, [second, third], head)[1].sequence == 3


def test_a_second_story_about_the_past_is_refused(key):
    _, head = taken(key, chain_of(key, 2))
    rewritten, _ = sign_report(
        key, lease="lease-1", machine="m-1", slot_start_at=SLOT, up_word=0, head=replace(head, hash="f" * 64)
    )

    with pytest.raises(ReadingOutOfSequence):
        accept_report(rewritten, public_key=key.public_bytes, machine="m-1", head=head)


@pytest.mark.parametrize(
    "change",
    [
        {"slot_start_at": SLOT + 1}, {"up_word": f"{1 << 60:016x}"}, {"up_word": 1}, {"up_word": "-1"}, {"lease": 7},
        {"sequence": 0}, {"sequence": 1.0}, {"sequence": True}, {"extra": 1}, {"up_word": "0x1"}, {"previous": None},
    ],
)  # fmt: skip
def test_a_signed_but_malformed_report_is_refused(key, change):
    fields = json.loads(chain_of(key, 1)[0].body) | change
    body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    with pytest.raises(ReadingMalformed) as refusal:
        accept_report(resigned(key, body), public_key=key.public_bytes, machine="m-1", head=START)
    assert isinstance(refusal.value, ReadingRefused)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_signed_bytes_that_are_no_report_are_refused(key, body):
    with pytest.raises(ReadingMalformed):
        accept_report(resigned(key, body), public_key=key.public_bytes, machine="m-1", head=START)


def test_only_canonical_bytes_are_taken(key):
    body = chain_of(key, 1)[0].body

    with pytest.raises(ReadingMalformed, match="canonical"):
        accept_report(resigned(key, body + b"\n"), public_key=key.public_bytes, machine="m-1", head=START)


def test_a_report_of_an_impossible_slot_is_not_signed(key):
    with pytest.raises(ReadingMalformed):
        sign_report(key, lease="l", machine="m-1", slot_start_at=SLOT + 60, up_word=0, head=START)
    with pytest.raises(ReadingMalformed):
        sign_report(key, lease="l", machine="m-1", slot_start_at=SLOT, up_word=FULL_WORD + 1, head=START)
