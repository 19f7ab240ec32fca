"""Verifiers in programs of their own measure one machine together; the market takes what a quorum of them attests."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from contracts.eip712 import Signature, in_signing_order
from ledger.models import ChainIntent
from ledger.rails.errors import CallReverted
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from marketplace import clock
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent.attestation import LocalKey, Terms, attest, message_of
from marketplace.agent.keys import create_key, rotation_statement
from marketplace.agent.panel import run_panel
from marketplace.agent.prover import LocalProver
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import ChallengeAsk, sign_statement
from marketplace.agent.verifier import Verifier
from marketplace.demo.keys import machine_key
from marketplace.errors import (
    AttestationForged,
    BadInput,
    ChallengeExpired,
    ChallengeStale,
    ClockSkewed,
    EvidenceReused,
    NotAnAttester,
    NotOnPanel,
    OtherSpec,
    ReportForged,
    ReportMalformed,
    ReportReplayed,
    ResultDiffers,
    TranscriptAltered,
)
from marketplace.parties.services import issue_api_key, register_party
from marketplace.supply.challenges import find_challenge, open_challenge, orders_for, take_attestation
from marketplace.supply.machine_keys import rotate_machine_key
from marketplace.supply.onchain import attestation_of
from marketplace.supply.verifiers import seat_verifier
from pricing.proof import Preset
from pricing.transcript import Transcript, score_of
from tests.agent.serving import Site, agent, served, start
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = [pytest.mark.stage("collecting"), pytest.mark.usefixtures("unhurried")]
SEATS = (1, 2, 3)


def private(number: int) -> bytes:
    """The key of one seat, as the organisation itself would hold it."""
    return signer()._file(f"verifier:{number}")._derive(f"verifier:{number}")


@pytest.fixture
def sprout() -> m.NodeClass:
    """A class that has proven nothing; this machine is no H100, so the class asks for little here."""
    with behind_the_triggers():
        m.ResourceClass.objects.filter(pk="H100").update(ops_per_sec=1)
        m.ResourceClass.objects.exclude(pk="H100").update(ops_per_sec=10**18)
    return m.NodeClass.objects.select_related("standing").get(pk=world.node_class("sprout").pk)


def asked(node_class: m.NodeClass, **changes: Any) -> SignedReport:
    facts = {"machine": str(node_class.pk), "kind": 1, "purpose": "demo", "prover_url": "http://127.0.0.1:1",
             "certificate": "", "token": "t" * 48, "asked_at_ms": int(clock.now().timestamp() * 1000)}  # fmt: skip
    return sign_statement(machine_key("sprout"), ChallengeAsk(**facts | changes))


def opened(node_class: m.NodeClass, **changes: Any) -> m.Challenge:
    return open_challenge(party=node_class.party, signed=asked(node_class, **changes), now=clock.now())


class Session:
    """One proof of sprout's machine before the panel of a challenge, and what each seat would hand in."""

    def __init__(
        self, challenge: m.Challenge, *, others: tuple[int, ...] = SEATS, preset: Preset | None = None
    ) -> None:
        self.challenge, self.terms = challenge, Terms.from_json(challenge.terms)
        keys = sorted((LocalKey(private(number)) for number in others), key=lambda key: key.address)
        self.verifiers = {key.address: Verifier(key) for key in keys}
        proof = run_panel(
            list(self.verifiers.values()), LocalProver(key=machine_key("sprout")), binding=self.terms.binding,
            preset=preset or Preset(**challenge.preset), machine_key=machine_key("sprout").public_bytes,
        )  # fmt: skip
        self.whole = proof.transcript
        self.transcript = proof.transcript.light()
        self.attestation = attest(self.transcript, score_of(self.transcript), self.terms)

    def take(self, number: int, *, party: str = "", key: int | None = None, now: Any = None, signs: Any = None,
             **changes: Any) -> m.ChallengeReport:  # fmt: skip
        says = signs or self.attestation
        where = {"chain_id": self.terms.chain_id, "verifying_contract": self.terms.verifying_contract}
        facts = {"transcript": self.transcript.to_bytes(), "message": message_of(says),
                 "signature": LocalKey(private(key or number)).sign(says, **where)}  # fmt: skip
        return take_attestation(
            party=m.Party.objects.get(slug=party or f"verifier-{number}"), challenge=self.challenge,
            now=now or clock.now(), **facts | changes,
        )  # fmt: skip


def test_a_quorum_of_one_transcript_is_the_benchmark_and_the_contract_hears_of_it(sprout: m.NodeClass) -> None:
    session = Session(opened(sprout))
    session.take(1)
    assert not m.Benchmark.objects.filter(node_class=sprout).exists()
    assert m.Standing.objects.get(node_class=sprout).state == "REGISTERED"

    session.take(2)

    benchmark = m.Benchmark.objects.get(node_class=sprout)
    assert m.ChallengeResult.objects.get().benchmark == benchmark
    assert (benchmark.is_simulated, benchmark.measured_class, benchmark.attestations.count()) == (False, "H100", 2)
    assert m.Standing.objects.get(node_class=sprout).state == "PROBATION"
    assert benchmark.vantages.count() == len(SEATS)
    with untouched():
        session.take(2)
    session.take(3)  # late, of the same transcript: it stands beside them
    assert m.Benchmark.objects.filter(node_class=sprout).count() == 1
    assert ChainIntent.objects.filter(key=f"prove:{sprout.chain_class}:{benchmark.epoch}").count() == 1
    clock.move_to(benchmark.finished_at + timedelta(minutes=1))
    struct, signed = attestation_of(benchmark).abi(), {
        row.signer: Signature(row.v, bytes(row.r), bytes(row.s)) for row in benchmark.attestations.all()
    }
    chain().call("stake", "prove", struct, in_signing_order(signed))  # the contract takes it
    for few in (in_signing_order(signed)[:1], in_signing_order(signed) * 2):
        with pytest.raises(CallReverted):
            chain().call("stake", "prove", struct, few)


def test_the_class_follows_from_the_score_and_from_no_name(sprout: m.NodeClass) -> None:
    with behind_the_triggers():
        m.ResourceClass.objects.filter(pk="H100").update(ops_per_sec=10**15)
        m.ResourceClass.objects.filter(pk="A100").update(ops_per_sec=1)
    challenge = opened(sprout)
    session = Session(challenge, preset=Preset(**challenge.preset))
    session.take(1)
    session.take(2)

    assert m.Benchmark.objects.get(node_class=sprout).measured_class == "A100"
    sprout.refresh_from_db()
    assert sprout.resource_class_id == "A100"


def test_only_a_seat_that_was_drawn_attests_and_only_with_its_own_key(sprout: m.NodeClass) -> None:
    session, now = Session(opened(sprout)), clock.now()
    with refused(NotAnAttester):
        session.take(1, party="granite")
    fourth = register_party(slug="fourth", name="Fourth", kind="verifier", country="CH", parent_country="CH", now=now)
    with refused(NotAnAttester):
        session.take(1, party="fourth")
    seat_verifier(party=fourth, address="0x" + "4" * 40, vantage="ams", now=now)
    with refused(NotOnPanel):
        session.take(1, party="fourth")
    with refused(AttestationForged, seat=signer().address("verifier:1")):
        session.take(1, key=2)
    taller = Signature(27, b"\1" * 32, b"\xff" * 32)
    with refused(AttestationForged):
        session.take(1, signature=taller)
    with refused(AttestationForged):
        session.take(1, signature=Signature(99, b"", b""))
    with behind_the_triggers():
        m.VerifierSeat.objects.filter(party__slug="verifier-1").update(retired_at=now)
    with refused(NotAnAttester):
        session.take(1)
    with refused(NotAnAttester):
        orders_for(verifier=m.Party.objects.get(slug="granite"), now=now)


def test_an_attestation_on_other_terms_or_with_other_figures_is_refused(sprout: m.NodeClass) -> None:
    session = Session(opened(sprout))
    terms: dict[str, Any] = {
        "kind": 2, "epoch": 9, "valid_until": 1, "started_at": 1, "machine_id": bytes(32), "params_hash": bytes(32),
        "provider_id": bytes(32), "hw_key_hash": b"h" * 32,
    }  # fmt: skip
    for field, value in terms.items():
        with refused(OtherSpec, fields=[field]):
            session.take(1, signs=replace(session.attestation, **{field: value}))
    for field, value in (("ops_per_sec", 10**15), ("mem_bytes", 1), ("rtt_max_km", 1), ("seed", bytes(32)),
                         ("transcript_hash", bytes(32)), ("panel_root", bytes(32))):  # fmt: skip
        with refused(ResultDiffers, fields=[field]):
            session.take(1, signs=replace(session.attestation, **{field: value}))
    with refused(OtherSpec):
        session.take(1, message=message_of(session.attestation) | {"comment": "trust me"})
    session.take(1)


def test_a_chain_of_another_size_panel_or_machine_is_another_spec(sprout: m.NodeClass) -> None:
    challenge = opened(sprout)
    smaller = replace(Preset(**challenge.preset), products=1)
    with refused(OtherSpec, field="preset"):
        Session(challenge, preset=smaller).take(1)
    with refused(OtherSpec, field="panel"):
        Session(challenge, others=(1, 2)).take(1)
    session = Session(challenge)
    with behind_the_triggers():
        m.NodeClass.objects.filter(pk=sprout.pk).update(machine_key=b"k" * 32)
    with refused(OtherSpec, field="machine_key"):
        session.challenge = m.Challenge.objects.get(pk=challenge.pk)
        session.take(1)


def test_an_altered_transcript_is_refused_with_what_does_not_hold(sprout: m.NodeClass) -> None:
    session = Session(opened(sprout))
    plain = json.loads(session.transcript.to_bytes())

    def altered(change: Callable[[dict[str, Any]], None]) -> bytes:
        fresh = json.loads(json.dumps(plain))
        change(fresh)
        return json.dumps(fresh, sort_keys=True, separators=(",", ":")).encode()

    def other_row(said: dict[str, Any]) -> None:
        cells = bytearray(base64.b64decode(said["witnesses"][0]["openings"][1]["previous"]["cells"]))
        cells[0] ^= 1
        said["witnesses"][0]["openings"][1]["previous"]["cells"] = base64.b64encode(cells).decode()

    def other_echo(said: dict[str, Any]) -> None:
        said["witnesses"][0]["measures"]["echoes"][0][1] = "00" * 64

    def other_stamps(said: dict[str, Any]) -> None:
        said["witnesses"][0]["root_ns"][0] = said["witnesses"][0]["nonce_ns"][0]

    for change in (other_row, other_echo, other_stamps):
        with refused(TranscriptAltered):
            session.take(1, transcript=altered(change))
    with refused(TranscriptAltered):
        session.take(1, transcript=b"{}")
    with refused(TranscriptAltered, cause="not_light"):
        session.take(1, transcript=session.whole.to_bytes())
    assert m.ChallengeTranscript.objects.count() == 0


def test_a_transcript_of_an_earlier_challenge_is_stale_and_one_handed_in_before_is_reused(sprout: m.NodeClass) -> None:
    first = Session(opened(sprout))
    first.take(1)
    second = opened(sprout, prover_url="http://127.0.0.1:2")
    assert second.epoch == first.challenge.epoch + 1
    again = Session(opened(sprout, prover_url="http://127.0.0.1:3"))

    first.challenge = second
    with refused(EvidenceReused):
        first.take(2)
    stale = first.transcript.to_bytes().replace(b'"backend":"float32"', b'"backend":"float33"')
    with refused(ChallengeStale):
        first.take(2, transcript=stale)
    again.take(2)


def test_a_challenge_ends_and_takes_nothing_before_or_after(sprout: m.NodeClass) -> None:
    session = Session(opened(sprout))
    with refused(ChallengeExpired):
        session.take(1, now=session.challenge.closes_at)
    session.take(1, now=session.challenge.closes_at - timedelta(seconds=1))


def test_who_attests_another_transcript_than_the_quorum_is_refused(sprout: m.NodeClass) -> None:
    challenge = opened(sprout)
    agreed, other = Session(challenge), Session(challenge)
    agreed.take(1)
    with refused(ReportReplayed):
        other.take(1)
    agreed.take(2)

    with refused(ResultDiffers):
        other.take(3)
    agreed.take(3)


def test_two_transcripts_are_no_quorum(sprout: m.NodeClass) -> None:
    challenge = opened(sprout)
    Session(challenge).take(1)
    Session(challenge).take(2)

    assert not m.ChallengeResult.objects.exists()
    assert m.ChallengeReport.objects.count() == 2


def test_a_challenge_is_asked_for_by_its_own_machine_now(sprout: m.NodeClass) -> None:
    now, party = clock.now(), sprout.party
    one = asked(sprout)
    row = open_challenge(party=party, signed=one, now=now)
    with untouched():
        assert open_challenge(party=party, signed=one, now=now + timedelta(minutes=5)) == row
    with refused(ReportForged, field="machine"):
        open_challenge(party=world.party("granite"), signed=asked(sprout), now=now)
    with refused(ReportForged):
        open_challenge(party=party, signed=SignedReport(asked(sprout, kind=2).body, bytes(64)), now=now)
    with refused(ReportMalformed):
        open_challenge(party=party, signed=SignedReport(one.body + b" ", one.signature), now=now)
    with refused(ClockSkewed):
        opened(sprout, asked_at_ms=int((now - timedelta(seconds=11)).timestamp() * 1000))
    assert find_challenge(row.pk, party) == row
    assert find_challenge(row.pk, m.Party.objects.get(slug="verifier-1")) == row
    assert find_challenge(row.pk, world.party("granite")) is None


def test_outside_a_demo_a_benchmark_is_no_small_chain(sprout: m.NodeClass, settings: Any) -> None:
    settings.DEMO = False
    with refused(BadInput, field="purpose"):
        opened(sprout)
    opened(sprout, purpose="short")


def test_asking_again_draws_no_other_panel_that_day(sprout: m.NodeClass) -> None:
    now = clock.now()
    for number in range(8):
        one = register_party(slug=f"more-{number}", name=f"More {number}", kind="verifier", country="CH",
                             parent_country="CH", now=now)  # fmt: skip
        seat_verifier(party=one, address=f"0x{number}" + "9" * 39, vantage=f"v{number}", now=now)

    def panel(**changes: Any) -> list[str]:
        one = asked(sprout, asked_at_ms=int(now.timestamp() * 1000), **changes)  # all of one day, at midnight too
        row = open_challenge(party=sprout.party, signed=one, now=now)
        return sorted(row.seats.values_list("seat", flat=True))

    drawn = [panel(prover_url=f"http://127.0.0.1:{port}") for port in range(1, 6)]
    assert len(drawn[0]) == len(SEATS)
    assert all(each == drawn[0] for each in drawn)


# --- the whole, in programs of their own -----------------------------------------------------------------------------
@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def market_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the market's time run on from where it stands."""
    from_at, began = clock.now(), time.monotonic()
    monkeypatch.setattr(clock, "now", lambda: from_at + timedelta(seconds=time.monotonic() - began))
    cache.clear()


def api_key(slug: str) -> str:
    party = m.Party.objects.get(slug=slug)
    return issue_api_key(party=party, label="attest", may_write=True, now=clock.now())[1]


@pytest.mark.slow  # four programs that measure each other ask for a machine with nothing else to do
@pytest.mark.parametrize("wired", ["loopback", "pinned"])
def test_a_machine_proves_to_three_verifiers_each_in_its_own_process(
    sprout: m.NodeClass, site: Site, tmp_path: Path, market_runs: None, wired: str
) -> None:
    home, own = tmp_path / "home", machine_key("sprout")
    key = create_key(home)
    rotate_machine_key(statement=rotation_statement(own, key), now=clock.now())
    homes.write_json(home, homes.AGENT_FILE, {"server": site.url, "machine": f"cls_{sprout.pk.hex}"})
    files = [tmp_path / f"attester-{number}" for number in SEATS]
    for number, file in zip(SEATS, files, strict=True):
        file.write_text(private(number).hex())
        file.chmod(0o600)
    listen = ("--listen", "127.0.0.1:0")
    if wired == "pinned":
        from marketplace.agent.wire import own_certificate

        pair = own_certificate(home)
        listen += ("--certificate", str(pair.certificate), "--certificate-key", str(pair.key))

    processes = [start("benchmark", "--market", "--home", home, *listen, GROVE_API_KEY=api_key("sprout"))]
    for number, file in zip(SEATS, files, strict=True):
        words = ("verify", "--market", site.url, "--once", "--key-file", file)
        processes.append(start(*words, GROVE_API_KEY=api_key(f"verifier-{number}")))
    try:
        ends = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 4, ends
    told = json.loads(ends[0][0])
    assert (told["state"], told["resource_class"], told["standing"]) == ("attested", "H100", "PROBATION")
    benchmark = m.Benchmark.objects.get(node_class=sprout)
    assert benchmark.challenge.challenge.prover_url.startswith("https" if wired == "pinned" else "http:")
    assert benchmark.attestations.count() >= 2
    transcript = Transcript.from_bytes(bytes(benchmark.transcript))
    seats = {signer().address(f"verifier:{number}") for number in SEATS}
    assert {witness.name for witness in transcript.witnesses} == seats
    assert transcript.machine_key == key.public_bytes
    words = [json.loads(out.split("\n", 1)[1]) for out, _ in ends[1:]]
    reports = m.ChallengeReport.objects.filter(challenge=benchmark.challenge.challenge).count()
    assert reports == sum(len(told["attested"]) for told in words) >= 2, ends
    assert len({row.transcript_id for row in m.ChallengeReport.objects.all()}) == 1
    file = tmp_path / "transcript.json"
    file.write_bytes(bytes(benchmark.transcript))
    assert agent("verify", file)["transcript_hash"] == bytes(benchmark.transcript_hash).hex()


def test_a_machine_that_listens_everywhere_says_where_it_is_reached(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "home"
    create_key(home)
    homes.write_json(home, homes.AGENT_FILE, {"server": site.url, "machine": "cls_" + "0" * 32})
    words = ("benchmark", "--market", "--home", home)

    refusals = [agent(*words, "--listen", "0.0.0.0:0", status=2), agent(*words, status=2)]

    assert ["--advertise" in refusals[0]["title"], "--listen" in refusals[1]["title"]] == [True, True]


def test_a_verifiers_key_file_that_others_can_read_is_refused(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "attester"
    file.write_text(private(1).hex())
    words = ("verify", "--market", site.url, "--once", "--key-file", file)
    key = {"GROVE_API_KEY": api_key("verifier-1")}

    file.chmod(0o644)
    assert agent(*words, status=4, **key)["code"] == "key_modes_wrong"
    file.chmod(0o600)
    file.write_text("not hex")
    assert agent(*words, status=2, **key)["code"] == "usage_wrong"
    assert agent("verify", "--market", site.url, status=4, **key)["code"] == "key_missing"


def test_the_door_refuses_what_does_not_unpack_and_what_unpacks_to_too_much(
    sprout: m.NodeClass, site: Site, market_runs: None
) -> None:
    from marketplace.agent.client import ApiClient
    from marketplace.agent.errors import ServerRefused

    name = f"chl_{opened(sprout).pk.hex}"
    body = {"attestation": {}, "signature": {"v": 27, "r": "", "s": ""}}
    with ApiClient(site.url, api_key=api_key("verifier-1")) as client:
        for text in ("?", *(base64.b64encode(each).decode() for each in (b"no", zlib.compress(bytes(33 << 20))))):
            with pytest.raises(ServerRefused) as refusal:
                client.post(f"/api/v1/challenges/{name}/attestations", body | {"transcript": text})
            assert refusal.value.facts["status"] == 422
        assert client.get(f"/api/v1/challenges/{name}")["state"] == "open"
        assert [order["challenge"] for order in client.get("/api/v1/challenge-orders")["data"]] == [name]
    with ApiClient(site.url, api_key=api_key("granite")) as client:
        with pytest.raises(ServerRefused) as refusal:
            client.get(f"/api/v1/challenges/{name}")
        assert refusal.value.facts["status"] == 404
        with pytest.raises(ServerRefused) as refusal:
            client.get("/api/v1/challenge-orders")
        assert refusal.value.facts["problem_code"] == "not_an_attester"
