"""Sealed bids at rest: who can read one before the close, by which way, and what happens to a key that is lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client

from ledger.ids import uuid7
from ledger.selectors import hold
from marketplace import clock
from marketplace import models as m
from marketplace.clearing.services import KEY_WAIT, clear_window, close_bidding, verify_published
from marketplace.console.reads import opened_bids
from marketplace.errors import HoldersMissing, ReferenceReused, SealBroken, ShareRefused, TooEarly
from marketplace.supply import holders, party_keys, shamir
from marketplace.supply.admissions import delivery_month
from marketplace.supply.bids import place_bid, withdraw_bid
from marketplace.supply.envelopes import lock_for, make_private_key, public_key_of, unlock, unlock_with
from marketplace.supply.sealing import Terms, _name_of, make_seal, with_own_terms
from marketplace.supply.selectors import find_bid
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import as_owner, behind_the_triggers
from tests.sealed import own_bid

pytestmark = pytest.mark.stage("bidding")

PRICE, QUANTITY = 1_777_700, 3
MARKS = ("1777700", "1,777,700", "1.7777", PRICE.to_bytes(4, "big").hex(), PRICE.to_bytes(4, "little").hex())


def marked(reference: str = "marked", **changes: Any) -> m.Bid:
    row = world.node_class("granite")
    terms: dict[str, Any] = {
        "party": row.party, "node_class": row, "window": world.window(), "reference": reference,
        "quantity_units": QUANTITY, "start_slot": 0, "end_slot": 29, "price_ask_micros": PRICE, "sla_code": "99.0",
        "now": clock.now(),
    }  # fmt: skip
    return place_bid(**terms | changes)


def holder(code: str) -> m.KeyHolder:
    return m.KeyHolder.objects.get(pk=code)


def share_of(window: m.Window, code: str) -> bytes:
    """What a holder gets out of its locked share with its own key."""
    row = m.WindowShare.objects.select_related("holder_key").get(window_key__window=window, holder_key__holder=code)
    private = holders.demo_private_key(code, row.holder_key.version)
    return unlock_with(private, bytes(row.locked or b""), holders.share_name(window.pk, row.number))


ALL = tuple(code for code, _, _ in holders.DEMO_HOLDERS)


# --- before the close ---------------------------------------------------------------------------------------------
def whole_database() -> str:
    """Every row of every table as text, read by the role that may read everything."""
    with as_owner() as cursor:
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog')")
        texts = []
        for schema, table in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{schema}"."{table}" t')
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


def test_a_superuser_s_dump_of_the_whole_database_holds_no_term_of_a_sealed_bid() -> None:
    bid = marked()
    dump = whole_database()

    assert str(bid.pk) in dump  # the row is there and is read
    assert [mark for mark in MARKS if mark in dump] == []
    assert bytes(m.BidSeal.objects.get(pk=bid.pk).body).hex() in dump  # this is all that lies of it

    close_bidding(window=world.window(), now=clock.move_to(world.window().bidding_closes_at))
    assert "1777700" in whole_database()  # and the search would have found it


def test_the_orm_reads_nothing_of_a_sealed_bid_and_its_own_party_reads_all() -> None:
    bid = marked()
    stored = m.Bid.objects.get(pk=bid.pk)

    assert {getattr(stored, name) for name in ("quantity_units", "start_slot", "end_slot", "price_ask_micros",
                                               "minimum_units", "sla_id")} == {None}  # fmt: skip
    assert stored.unit_hours == 0
    own = find_bid(bid.pk, world.party("granite"))
    assert own is not None
    assert (own.price_ask_micros, own.quantity_units, own.sla_id) == (PRICE, QUANTITY, "99.0")
    other = with_own_terms([stored], party=world.party("harbour"))[0]
    assert (other.price_ask_micros, find_bid(bid.pk, world.party("harbour"))) == (None, None)


@pytest.mark.parametrize("changes", [{"price_ask_micros": 100}, {"quantity_units": 1}, {"sla_id": "99.5"}])
def test_terms_in_clear_are_refused_before_the_close_even_from_the_owner(changes: dict[str, Any]) -> None:
    bid = marked()
    with as_owner(), pytest.raises(Exception, match="bid_lies_under_seal_before_close"), transaction.atomic():
        m.Bid.objects.filter(pk=bid.pk).update(**changes)


def test_seals_of_unlike_prices_are_alike_in_length_and_none_repeats() -> None:
    one, other = marked("one", price_ask_micros=100, quantity_units=1), marked("other", quantity_units=1)
    seals = [m.BidSeal.objects.get(pk=bid.pk) for bid in (one, other)]

    assert len({(len(s.body), len(s.key_for_window), len(s.key_for_party)) for s in seals}) == 1
    twin = marked("twin", quantity_units=1)
    assert m.BidSeal.objects.get(pk=twin.pk).commitment != seals[1].commitment  # the same terms, another commitment


def test_each_seal_has_a_key_of_its_own_that_nothing_in_clear_gives() -> None:
    """The same bid sealed twice lies under two keys: so none is fixed, and none is worked out of what is in clear."""
    bid = marked()
    terms, name = Terms(QUANTITY, 0, 29, PRICE, 0, "99.0"), _name_of(bid)
    public = bytes(m.WindowKey.objects.get(window=bid.window).public_key)
    seals = [make_seal(bid, terms, window_public_key=public) for _ in range(3)]

    keys = {unlock(party_keys.party_key(bid.party_id, seal.party_key_version), bytes(seal.key_for_party), name)
            for seal in seals}  # fmt: skip
    assert len(keys) == len({bytes(seal.body) for seal in seals}) == 3
    assert {len(key) for key in keys} == {32}
    with pytest.raises(SealBroken):
        unlock(next(iter(keys)), bytes(m.BidSeal.objects.get(pk=bid.pk).body), name)


def test_no_share_is_released_before_the_close_and_one_share_opens_nothing() -> None:
    window, bid = world.window(), marked()
    share = share_of(window, ALL[0])
    early = window.bidding_closes_at - timedelta(microseconds=1)

    with refused(TooEarly):
        holders.release_share(window=window, holder=holder(ALL[0]), share=share, now=early)
    with refused(ShareRefused, holder=ALL[0]):
        holders.release_share(window=window, holder=holder(ALL[0]), share=share_of(window, ALL[1]),
                              now=window.bidding_closes_at)  # fmt: skip
    assert holders.release_demo_shares(window=window, now=early) == 0

    holders.release_share(window=window, holder=holder(ALL[0]), share=share, now=window.bidding_closes_at)
    with pytest.raises(Exception, match="2 shares are needed"):
        holders.window_private_key(window)
    assert m.Bid.objects.get(pk=bid.pk).price_ask_micros is None


def test_the_bid_is_opened_by_the_window_s_key_and_by_no_key_of_one_holder() -> None:
    bid = marked()
    seal, name = m.BidSeal.objects.get(pk=bid.pk), bid.pk
    for code in ALL:
        with pytest.raises(SealBroken):
            unlock_with(holders.demo_private_key(code, 1), bytes(seal.key_for_window), name.bytes)


# --- after the close ----------------------------------------------------------------------------------------------
def test_after_the_close_whoever_is_entitled_reads_it_and_the_key_is_gone() -> None:
    bid = marked()
    window = world.window()

    assert close_bidding(window=window, now=window.bidding_closes_at) == "CLEARING"

    opened = m.Bid.objects.get(pk=bid.pk)
    assert (opened.state, opened.price_ask_micros, opened.quantity_units, opened.end_slot, opened.sla_id) == (
        "opened", PRICE, QUANTITY, 29, "99.0")  # fmt: skip
    assert opened in opened_bids(world.window())
    assert m.AuditLine.objects.get(action="open_bids", subject=window.name).facts["bids"] == 6
    key = m.WindowKey.objects.get(window=window)
    assert (key.ended_by, set(key.shares.values_list("locked", "released"))) == ("opened", {(None, None)})


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_any_two_of_three_holders_open_a_window(pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    window, marks = world.window(), marked()
    for place in pair:
        code = ALL[place]
        holders.release_share(window=window, holder=holder(code), share=share_of(window, code),
                              now=window.bidding_closes_at)  # fmt: skip
    monkeypatch.setattr(settings, "DEMO", False)  # nobody helps

    assert close_bidding(window=window, now=window.bidding_closes_at) == "CLEARING"
    assert m.Bid.objects.get(pk=marks.pk).price_ask_micros == PRICE


def test_a_withdrawn_bid_stays_sealed_for_everybody_but_its_party() -> None:
    bid = marked()
    withdraw_bid(bid=bid, party=bid.party, now=clock.now())
    window = world.window()

    assert m.BidSeal.objects.get(pk=bid.pk).key_for_window == b""
    close_bidding(window=window, now=window.bidding_closes_at)
    clear_window(window=window, now=window.bidding_closes_at)

    stored = m.Bid.objects.get(pk=bid.pk)
    assert (stored.state, stored.price_ask_micros) == ("withdrawn", None)
    assert "1777700" not in whole_database()
    assert own_bid(pk=bid.pk).price_ask_micros == PRICE
    assert stored.reasons.get().code == "withdrawn"


# --- tampering ----------------------------------------------------------------------------------------------------
def assert_failed(code: str) -> None:
    """The window failed for this reason, every hold came back, and nothing of its bids was opened."""
    window = world.window()
    assert (window.state, window.transitions.get(to_state="FAILED").facts["code"]) == ("FAILED", code)
    held = m.Demand.objects.filter(window=window).exclude(hold_id=None)
    assert held.count() >= 6
    assert {hold(demand.hold_id).state for demand in held} == {"void"}
    assert set(m.Bid.objects.filter(window=window).values_list("state", "price_ask_micros")) == {("sealed", None)}
    shares = m.WindowShare.objects.filter(window_key__window=window)
    assert set(shares.values_list("locked", "released")) == {(None, None)}
    assert m.Notice.objects.filter(about=f"window:{window.number}:failed", code=code).count() == 9


def swap_seals() -> None:
    """Two bids change places: each seal is whole and lies at the wrong row."""
    one, other = m.BidSeal.objects.filter(bid__window=world.window())[:2]
    both = {"body": one.body, "key_for_window": one.key_for_window}
    m.BidSeal.objects.filter(pk=one.pk).update(body=other.body, key_for_window=other.key_for_window)
    m.BidSeal.objects.filter(pk=other.pk).update(**both)


TAMPER: dict[str, Callable[[], Any]] = {
    "a bid is deleted": lambda: m.Bid.objects.filter(pk=world.bid("granite").pk).delete(),
    "a seal is deleted": lambda: m.BidSeal.objects.filter(pk=world.bid("granite").pk).delete(),
    "a bid is marked withdrawn": lambda: m.Bid.objects.filter(pk=world.bid("granite").pk).update(state="withdrawn"),
    "a bit of a body is turned": lambda: m.BidSeal.objects.filter(pk=world.bid("granite").pk).update(
        body=bytes(m.BidSeal.objects.get(pk=world.bid("granite").pk).body[:-1]) + b"\x00"),
    "two seals change places": swap_seals,
    "a commitment is changed": lambda: m.BidSeal.objects.filter(pk=world.bid("granite").pk).update(
        commitment=os.urandom(32)),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPER)
def test_a_window_whose_sealed_bids_were_tampered_with_fails_and_gives_the_money_back(how: str) -> None:
    window = world.window()
    with behind_the_triggers():
        TAMPER[how]()

    assert close_bidding(window=window, now=window.bidding_closes_at) == "FAILED"
    window.refresh_from_db()
    assert (window.state, window.transitions.get(to_state="FAILED").facts["code"]) == ("FAILED", "seal_broken")
    assert not m.Bid.objects.filter(window=window, price_ask_micros__isnull=False).exists()
    holds = m.Demand.objects.filter(window=window).exclude(hold_id=None)
    assert {hold(demand.hold_id).state for demand in holds} == {"void"}


# --- keys that are lost, late or renewed --------------------------------------------------------------------------
def test_one_lost_key_is_borne_and_two_fail_the_window_at_once() -> None:
    window = world.window()
    holders.report_lost(window=window, holder=holder(ALL[0]), reason="the safe burned down", now=clock.now())
    assert close_bidding(window=window, now=clock.now()) == "BIDDING"

    holders.report_lost(window=window, holder=holder(ALL[1]), reason="the disk was wiped", now=clock.now())
    assert close_bidding(window=window, now=clock.now()) == "FAILED"  # before the close: waiting would help nobody
    assert_failed("seal_key_lost")


def test_with_one_key_destroyed_the_other_two_open_the_window() -> None:
    window = world.window()
    holders.report_lost(window=window, holder=holder(ALL[2]), reason="destroyed", now=clock.now())

    assert close_bidding(window=window, now=window.bidding_closes_at) == "CLEARING"
    assert verify_published(clearing=clear_window(window=window, now=window.bidding_closes_at)) == []


def test_keyholders_who_are_late_are_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DEMO", False)  # nobody releases by itself
    window = world.window()
    last = min(window.bidding_closes_at + KEY_WAIT, window.starts_at)

    with untouched():
        assert close_bidding(window=window, now=window.bidding_closes_at) == "BIDDING"
        assert close_bidding(window=window, now=last - timedelta(seconds=1)) == "BIDDING"
    assert close_bidding(window=window, now=last) == "FAILED"
    assert_failed("seal_key_lost")


def test_a_holder_s_new_key_takes_its_open_share_along_and_the_old_one_opens_nothing_more() -> None:
    window, code = world.window(), ALL[0]
    share, old = share_of(window, code), holders.demo_private_key(code, 1)
    number = m.WindowShare.objects.get(window_key__window=window, holder_key__holder=code).number
    private = holders.demo_private_key(code, 2)
    relocked = lock_for(public_key_of(private), share, holders.share_name(window.pk, number))

    holders.rotate_holder_key(holder=holder(code), public_key=public_key_of(private),
                              relocked={window.pk: relocked}, now=clock.now())  # fmt: skip

    row = m.WindowShare.objects.get(window_key__window=window, holder_key__holder=code)
    assert row.holder_key.version == 2
    with pytest.raises(SealBroken):
        unlock_with(old, bytes(row.locked or b""), holders.share_name(window.pk, number))
    assert share_of(window, code) == share
    with refused(ReferenceReused, field="public_key"):
        holders.rotate_holder_key(holder=holder(code), public_key=public_key_of(old), now=clock.now())
    assert close_bidding(window=window, now=window.bidding_closes_at) == "CLEARING"


def test_a_holder_s_new_key_serves_the_next_window() -> None:
    code = ALL[1]
    holders.rotate_holder_key(holder=holder(code), public_key=public_key_of(holders.demo_private_key(code, 2)),
                              now=clock.now())  # fmt: skip
    next_window = world._open("Next", world.day(60), gate_unit_hours=1, gate_parties=1)

    key = holders.ensure_window_key(window=next_window, now=clock.now())

    assert key.shares.get(holder_key__holder=code).holder_key.version == 2
    assert holders.ensure_window_key(window=next_window, now=clock.now()) == key  # it is made once
    assert len(share_of(next_window, code)) == shamir.SHARE_BYTES


def test_the_party_s_key_is_renewed_and_a_lost_one_hides_the_copy_but_keeps_the_bid(tmp_path: Any) -> None:
    before = marked("before", quantity_units=1)
    path = settings.DATA_DIR / party_keys.FILE
    kept = path.read_text()
    try:
        version = party_keys.rotate()
        after = marked("after", quantity_units=1)
        assert m.BidSeal.objects.get(pk=after.pk).party_key_version == version
        assert [own_bid(pk=bid.pk).price_ask_micros for bid in (before, after)] == [PRICE, PRICE]

        path.write_text(path.read_text().splitlines()[-1])  # the first version is lost
        assert [own_bid(pk=bid.pk).price_ask_micros for bid in (before, after)] == [None, PRICE]
        with pytest.raises(Exception, match="cannot be read"):
            marked("one more", quantity_units=1)
        close_bidding(window=world.window(), now=world.window().bidding_closes_at)
        assert m.Bid.objects.get(pk=before.pk).price_ask_micros == PRICE
    finally:
        path.write_text(kept)


# --- production ---------------------------------------------------------------------------------------------------
def test_in_production_no_bidding_opens_without_two_outside_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    window = world._open("Production", world.day(60), gate_unit_hours=1, gate_parties=1)
    monkeypatch.setattr(settings, "DEMO", False)

    with refused(HoldersMissing, needed=3, needed_outside=2):
        holders.ensure_window_key(window=window, now=clock.now())  # three are there, but they are the demo's
    for each in m.KeyHolder.objects.all():
        holders.retire_holder(holder=each, reason="the demo is over", now=clock.now())
    for code, is_outside in (("foundation", False), ("notary", True), ("office", False)):
        holders.appoint_holder(code=code, organisation=code.title(), is_outside=is_outside, now=clock.now(),
                               public_key=public_key_of(make_private_key()))  # fmt: skip
    with refused(HoldersMissing, outside=1):
        holders.ensure_window_key(window=window, now=clock.now())
    holders.retire_holder(holder=holder("office"), reason="not outside", now=clock.now())
    holders.appoint_holder(code="auditor", organisation="Auditor", is_outside=True, now=clock.now(),
                           public_key=public_key_of(make_private_key()))  # fmt: skip

    key = holders.ensure_window_key(window=window, now=clock.now())
    assert set(key.shares.values_list("holder_key__holder", flat=True)) == {"auditor", "foundation", "notary"}


def seal(*arguments: str) -> str:
    out = StringIO()
    call_command("seal", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_the_command_carries_a_window_from_three_keys_to_its_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three organisations with a key file each, as in production; the market never sees a private key."""
    monkeypatch.setattr(settings, "DEMO", False)
    for each in m.KeyHolder.objects.all():
        holders.retire_holder(holder=each, reason="the demo is over", now=clock.now())
    window = world._open("Production", world.day(60), gate_unit_hours=1, gate_parties=1)
    for code, options in (("foundation", ()), ("notary", ("--outside",)), ("auditor", ("--outside",))):
        public_key = seal("keygen", str(tmp_path / code))
        assert (tmp_path / code).stat().st_mode & 0o077 == 0
        seal("appoint", code, code.title(), public_key, *options)
    with pytest.raises(CommandError, match="no locked share"):
        seal("locked", "notary", window.name)
    m.Window.objects.filter(pk=window.pk).update(state="BIDDING")
    holders.ensure_window_key(window=window, now=clock.now())
    with behind_the_triggers():  # admission has tests of its own
        m.Admission.objects.create(
            id=uuid7(clock.now()), node_class=world.node_class("granite"), month=delivery_month(window), zone="EU",
            unit_hours=2**40, state="ADMITTED", asked_at=clock.now(), decided_at=clock.now(),
        )  # fmt: skip
    bid = marked(window=window)
    shares = {code: seal("unlock", str(tmp_path / code), *seal("locked", code, window.name).split())
              for code in ("auditor", "notary")}  # fmt: skip
    with pytest.raises(CommandError, match="does not open"):
        seal("unlock", str(tmp_path / "foundation"), *seal("locked", "notary", window.name).split())
    with pytest.raises(CommandError, match="too_early"):
        seal("release", "notary", window.name, shares["notary"])
    monkeypatch.setattr(clock, "now", lambda: window.bidding_closes_at)
    with pytest.raises(CommandError, match="share_refused"):
        seal("release", "notary", window.name, shares["auditor"])
    with pytest.raises(CommandError, match="bad_input"):
        seal("release", "notary", window.name, "no hex")
    seal("lost", "foundation", window.name, "the safe is closed")

    assert seal("release", "notary", window.name, shares["notary"]).startswith("1 shares")
    assert close_bidding(window=window, now=clock.now()) == "BIDDING"
    seal("release", "auditor", window.name, shares["auditor"])
    assert close_bidding(window=window, now=clock.now()) == "CLEARING"
    assert m.Bid.objects.get(pk=bid.pk).price_ask_micros == PRICE


def test_the_console_shows_the_shares_and_takes_one_after_the_close_only(monkeypatch: pytest.MonkeyPatch) -> None:
    user = m.User.objects.create_superuser("key@foundation.example", "correct horse battery")
    client, window, path = Client(), world.window(), "/console/keyholders/"
    client.force_login(user)
    share = share_of(window, ALL[0])
    row = m.WindowShare.objects.get(window_key__window=window, holder_key__holder=ALL[0])

    page = client.get(path).content.decode()
    assert "demo: its key lies on this server" in page
    assert share.hex() not in page
    early = client.post(path, {"share": row.pk, "act": "release", "text": share.hex()}, follow=True)
    assert "too_early" in early.content.decode()
    monkeypatch.setattr(clock, "now", lambda: window.bidding_closes_at)
    wrong = client.post(path, {"share": row.pk, "act": "release", "text": "zz"}, follow=True).content.decode()
    assert "written in hex" in wrong
    client.post(path, {"share": row.pk, "act": "release", "text": share.hex()})
    assert holders.released_shares(window) == 1
    other = m.WindowShare.objects.get(window_key__window=window, holder_key__holder=ALL[1])
    client.post(path, {"share": other.pk, "act": "lost", "text": "burned"})
    assert "burned" in client.get(path).content.decode()
    assert client.post(path, {"share": "x", "act": "lost", "text": "y"}).status_code == 404


# --- Shamir -------------------------------------------------------------------------------------------------------
def test_any_two_shares_give_the_secret_and_one_says_nothing() -> None:
    for secret in (bytes(32), b"\xff" * 32, *(os.urandom(32) for _ in range(200))):
        shares = shamir.split(secret, holders=3, threshold=2)
        for left_out in (1, 2, 3):
            two = {x: share for x, share in shares.items() if x != left_out}
            assert shamir.combine(two, threshold=2) == secret
        # For one share alone every secret is as possible: some second share leads from it to any other secret.
        other = int.from_bytes(hashlib.sha256(secret).digest(), "big")
        y = int.from_bytes(shares[1], "big")
        second = (other + 2 * (y - other)) % shamir.PRIME
        made_up = {1: shares[1], 2: second.to_bytes(shamir.SHARE_BYTES, "big")}
        assert shamir.combine(made_up, threshold=2) == hashlib.sha256(secret).digest()


def test_more_holders_and_a_higher_threshold_work_and_too_few_shares_are_refused() -> None:
    secret = os.urandom(32)
    shares = shamir.split(secret, holders=5, threshold=3)

    assert shamir.combine({x: shares[x] for x in (5, 1, 3)}, threshold=3) == secret
    with pytest.raises(ValueError, match="3 shares are needed"):
        shamir.combine({1: shares[1], 2: shares[2]}, threshold=3)
    for holders_, threshold in ((3, 0), (2, 3)):
        with pytest.raises(ValueError, match="threshold"):
            shamir.split(secret, holders=holders_, threshold=threshold)
    with pytest.raises(ValueError, match="32 bytes"):
        shamir.split(b"short", holders=3, threshold=2)
    wrong = {1: shares[1], 2: shares[2], 3: os.urandom(66)}
    with pytest.raises(ValueError, match="one of them is wrong"):
        shamir.combine(wrong, threshold=3)
