"""A payout proven in public: from the award to the transaction, without a name, and not one field may be changed."""

from __future__ import annotations

import copy
import functools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from eth_hash.auto import keccak as known_keccak

from ledger.ids import uuid7
from ledger.models import ChainEvent, ChainIntent
from ledger.rails.evm import chain
from marketplace import clock
from marketplace import models as m
from marketplace.errors import NotYours
from marketplace.payout import offline
from marketplace.payout.proofs import openings_of, payout_of, proof_of
from tests.journey import world

pytestmark = pytest.mark.stage("closed")


def payout(provider: str) -> m.Payout:
    return m.Payout.objects.get(node_class=world.node_class(provider), window=world.window())


def proven(provider: str, party: str = "") -> dict[str, Any]:
    """A party's file, as it is written to disk and read again."""
    return json.loads(json.dumps(proof_of(payout=payout(provider), party=world.party(party or provider))))  # type: ignore[no-any-return]


def leases(provider: str, **where: Any) -> list[m.Lease]:
    return list(m.Lease.objects.filter(node_class=world.node_class(provider), window=world.window(), **where))


@pytest.mark.parametrize("provider", ["granite", "harbour", "prairie"])
def test_the_providers_file_proves_every_lease_of_its_class(provider: str) -> None:
    document = proven(provider)

    report = offline.verify(document)

    assert (report.broken, report.is_whole) == ("", True)
    assert {line["lease"] for line in document["lines"]} == {str(lease.pk) for lease in leases(provider)}
    assert report.paid_micros == payout(provider).amount_micros
    intent = ChainIntent.objects.get(key=payout(provider).intent_key)
    assert (document["payout"]["tx_hash"], document["chain_id"]) == (intent.tx_hash, chain().chain_id)
    for number, digest in report.blocks.items():
        block = chain().block(number)
        assert block is not None
        assert block.hash == digest


def test_a_buyers_file_proves_its_own_leases_and_says_nothing_of_others() -> None:
    provider, buyer = "harbour", "birch"
    mine = {str(lease.pk) for lease in leases(provider, buyer=world.party(buyer))}
    others = {str(lease.pk) for lease in leases(provider)} - mine
    assert mine, "the world has such a lease"
    assert others, "the world has others"

    document = proven(provider, buyer)
    report = offline.verify(document)

    assert (report.broken, report.is_whole) == ("", False)
    assert {line["lease"] for line in document["lines"]} == mine
    assert not any(other in json.dumps(document) for other in others)


def test_the_file_names_nobody() -> None:
    text = json.dumps(proven("granite")).lower()
    names = {name.lower() for party in m.Party.objects.exclude(kind="foundation")
             for name in (party.slug, party.name, str(party.pk))}
    names |= {email.lower() for email in m.User.objects.values_list("email", flat=True)}
    names |= {row.reference.lower() for row in m.Demand.objects.all()}
    assert [name for name in names if name and name in text] == []


def test_somebody_else_gets_no_file_and_no_opening() -> None:
    outsider = next(party for code in world.BUYERS if not leases("granite", buyer=(party := world.party(code))))
    for party in (outsider, world.party("fjord")):
        with pytest.raises(NotYours):
            payout_of(payout_id=payout("granite").pk, party=party)
        with pytest.raises(NotYours):
            proof_of(payout=payout("granite"), party=party)
        assert openings_of(payout=payout("granite"), party=party) == []


def test_an_opening_shows_ones_own_award_and_no_other() -> None:
    document = proven("granite")
    buyer = leases("granite")[0].buyer
    theirs = openings_of(payout=payout("granite"), party=buyer)
    own = openings_of(payout=payout("granite"), party=world.party("granite"))
    assert {each["parts"][1] for each in theirs} == {buyer.slug}
    assert [each["parts"][:2] for each in own] == [["bid", "granite"]]
    for opening in (*theirs, *own):
        assert offline.verify(document, opening=opening).broken == ""
        for name in opening:
            forged = {**opening, name: ["bid", "fjord", "x"] if name == "parts" else other(opening[name])}
            assert offline.verify(document, opening=forged).broken != "", name
    ids = {line["demand"] for line in document["lines"]}
    assert all(each["id"] in ids for each in theirs)


def test_without_its_awards_the_check_asks_for_the_public_bundle() -> None:
    document = {**proven("granite"), "awards": None}
    files = {row.name: bytes(row.body) for row in world.window().clearing.files.all()}

    assert "public bundle" in offline.verify(document).broken
    assert offline.verify(document, awards=files[offline.AWARDS]).broken == ""
    assert "awards" in offline.verify(document, awards=files[offline.AWARDS] + b"{}\n").broken


@pytest.fixture
def hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember what was hashed: two files that differ in one place hash a thousand parts alike, in plain Python."""
    monkeypatch.setattr(offline, "keccak", functools.cache(offline.keccak))


@pytest.mark.usefixtures("hashed_once")
def test_every_field_is_needed_and_none_may_be_changed() -> None:
    """Each field once, wherever it stands first; then 150 places at random."""
    document = proven("granite")
    assert offline.verify(document).broken == ""
    places = list(places_in(document))
    first = {tuple(step for step in place if isinstance(step, str) and not step.isdigit()): place
             for place in reversed(places)}  # fmt: skip
    assert len(first) > 60
    chosen = [*first.values(), *random.Random(52).sample(places, 150)]

    unseen = [place for place in chosen if offline.verify(changed(document, place)).broken == ""]

    assert unseen == []


@pytest.mark.usefixtures("hashed_once")
def test_no_part_may_be_left_out_or_added_or_doubled() -> None:
    document = proven("granite")
    unseen = []
    for place in list(containers_in(document)):
        forged = copy.deepcopy(document)
        part = at(forged, place)
        if isinstance(part, dict):
            part["more"] = 1
        else:
            part.append(copy.deepcopy(part[-1]) if part else 1)
        if offline.verify(forged).broken == "":
            unseen.append(("more", place))
        if not part or place == ("lines",):
            continue
        forged = copy.deepcopy(document)
        part = at(forged, place)
        del part[next(iter(part)) if isinstance(part, dict) else -1]
        if offline.verify(forged).broken == "":
            unseen.append(("less", place))
    assert unseen == []


def test_a_file_without_one_of_its_leases_is_no_file_of_all_of_them() -> None:
    document = proven("harbour")
    assert len(document["lines"]) > 1
    del document["lines"][0]

    assert not offline.verify(document).is_whole


@pytest.mark.parametrize("rubbish", [None, [], "x", 3, {}, {"format": "grove-payout-proof"}])
def test_what_is_no_proof_is_refused_with_a_sentence(rubbish: Any) -> None:
    assert offline.verify(rubbish).broken != ""


def test_the_script_stands_alone_and_the_command_says_the_same(tmp_path: Path, capsys: Any) -> None:
    document, opening = proven("granite"), openings_of(payout=payout("granite"), party=world.party("granite"))[0]
    good, bad, mine = (tmp_path / f"{name}.json" for name in ("good", "bad", "mine"))
    good.write_text(json.dumps(document))
    mine.write_text(json.dumps(opening))
    bad.write_text(json.dumps(changed(document, ("lines", 0, "transfers", 0, "amount_micros"))))

    def run(*arguments: object) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-I", "-S", offline.__file__, *map(str, arguments)], check=False,
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        return done.returncode, done.stdout

    status, said = run(good, "--opening", mine)
    assert (status, "The proof holds" in said, "granite" in said) == (0, True, True)
    status, said = run(bad)
    assert (status, "BROKEN" in said) == (1, True)
    assert run(tmp_path / "none.json")[0] == 2
    assert run()[0] == 2

    call_command("verify", "payout", good)
    assert "The proof holds" in capsys.readouterr().out
    with pytest.raises(CommandError, match="does not hold"):
        call_command("verify", "payout", bad)
    with pytest.raises(CommandError, match="Name the file"):
        call_command("verify", "payout")


def test_the_page_offers_it_to_the_provider_and_to_the_buyers_of_its_leases_only() -> None:
    paid, buyer = payout("granite"), leases("granite")[0].buyer
    outsider = next(party for code in world.BUYERS if not leases("granite", buyer=(party := world.party(code))))
    for door, party in (("onboarding", world.party("granite")), ("portal", buyer)):
        browser, address = signed_in(party), reverse(f"{door}:payout_proof", args=[paid.pk])
        page = browser.get(address).content.decode()
        assert "holds" in page
        assert proven("granite")["payout"]["tx_hash"] in page
        answer = browser.get(address, {"file": ""})
        assert f"grove-payout-{paid.pk}.json" in answer.headers["Content-Disposition"]
        assert json.loads(answer.content) == proven("granite", party.slug)
        opening = openings_of(payout=paid, party=party)[0]
        assert json.loads(browser.get(address, {"opening": opening["id"]}).content) == opening
        assert browser.get(address, {"opening": "d-" + "0" * 20}).status_code == 404
    for door, party in (("onboarding", world.party("harbour")), ("portal", outsider)):
        for query in ({}, {"file": ""}, {"opening": proven("granite")["lines"][0]["demand"]}):
            assert signed_in(party).get(reverse(f"{door}:payout_proof", args=[paid.pk]), query).status_code == 404
    assert Client().get(reverse("portal:payout_proof", args=[paid.pk])).status_code == 302
    assert signed_in(buyer).get(reverse("onboarding:payout_proof", args=[paid.pk])).status_code == 404
    lease_page = signed_in(buyer).get(reverse("portal:lease", args=[leases("granite")[0].pk])).content.decode()
    assert reverse("portal:payout_proof", args=[paid.pk]) in lease_page
    statement = signed_in(world.party("granite")).get(reverse("onboarding:statement")).content.decode()
    assert reverse("onboarding:payout_proof", args=[paid.pk]) in statement


def test_before_everything_is_anchored_the_page_says_that_it_waits() -> None:
    day = m.EvidenceDay.objects.get(pk=leases("granite")[0].verdict.judged_at.date())
    ChainEvent.objects.filter(name="Bundled", args__window=day.anchor_number).delete()
    browser = signed_in(world.party("granite"))
    address = reverse("onboarding:payout_proof", args=[payout("granite").pk])

    assert "anchored on chain" in browser.get(address).content.decode()
    assert browser.get(address, {"file": ""}).status_code == 404


def signed_in(party: m.Party) -> Client:
    email = f"{party.slug}@proofs.example"
    user, is_new = m.User.objects.get_or_create(email=email, defaults={"username": email})
    if is_new:
        m.Seat.objects.create(id=uuid7(clock.now()), user=user, party=party, role="owner")
    browser = Client()
    browser.force_login(user)
    return browser


def test_its_keccak_is_ethereums() -> None:
    draw = random.Random(1)
    for size in (0, 1, 135, 136, 137, 271, 272, 1_000):
        data = draw.randbytes(size)
        assert offline.keccak(data) == known_keccak(data)


# -- how a document is changed ---------------------------------------------------------------------------------------
def places_in(part: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value of a document that holds no other."""
    if isinstance(part, dict | list):
        for step, inner in part.items() if isinstance(part, dict) else enumerate(part):
            yield from places_in(inner, (*place, step))
    else:
        yield place


def containers_in(part: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, dict | list):
        yield place
        for step, inner in part.items() if isinstance(part, dict) else enumerate(part):
            yield from containers_in(inner, (*place, step))


def at(document: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


def changed(document: Any, place: tuple[Any, ...]) -> Any:
    forged = copy.deepcopy(document)
    part = at(forged, place[:-1])
    part[place[-1]] = other(part[place[-1]])
    return forged


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return 7
    if isinstance(value, int):
        return value + 1
    middle = len(value) // 2
    return value[:middle] + ("1" if value[middle : middle + 1] != "1" else "2") + value[middle + 1 :]
