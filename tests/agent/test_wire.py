"""Off loopback a prover speaks TLS under a certificate that its machine signed, and nobody measures it in plain."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from marketplace.agent.attestation import LocalKey
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer
from marketplace.agent.errors import CertificateWrong, ServerRefused, ServerUnreachable, UsageWrong
from marketplace.agent.keys import create_key
from marketplace.agent.panel import run_panel
from marketplace.agent.prover import HttpProver, LocalProver, ProverServer
from marketplace.agent.rechecks import CheckDoor
from marketplace.agent.verifier import Verifier
from marketplace.agent.wire import Wire, own_certificate, pinned, require_vouched, vouch, wire_for
from pricing.proof import PRESETS
from tests.agent.test_rechecks import LEASE, MACHINE, VERIFIERS, checker, key_of

pytestmark = pytest.mark.usefixtures("unhurried")


@contextmanager
def serving(wire: Wire | None) -> Iterator[ProverServer]:
    server = ProverServer(("127.0.0.1", 0), prover=LocalProver(), token="open", wire=wire)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_prover_off_loopback_makes_one_certificate_and_at_home_needs_none(tmp_path: Path, monkeypatch: Any) -> None:
    assert wire_for("127.0.0.1", tmp_path) is None
    assert wire_for("::1", tmp_path) is None
    made = wire_for("0.0.0.0", tmp_path)
    assert made is not None
    assert made.key.stat().st_mode & 0o777 == 0o600
    again = wire_for("prover.example", tmp_path)
    assert again is not None
    assert again.fingerprint == made.fingerprint
    assert wire_for("127.0.0.1", tmp_path, certificate=made.certificate, key=made.key) == made

    monkeypatch.setenv("GROVE_PLAIN_HTTP", "1")
    assert wire_for("0.0.0.0", tmp_path) is None
    with pytest.raises(UsageWrong):
        wire_for("0.0.0.0", tmp_path, certificate=made.certificate)
    (tmp_path / "none.pem").write_text("none")
    with pytest.raises(UsageWrong):
        assert Wire(tmp_path / "none.pem", made.key).fingerprint
    with pytest.raises(UsageWrong):
        Wire(tmp_path / "none.pem", made.key).context()


def test_a_whole_proof_goes_over_tls_to_whoever_pins_the_certificate(tmp_path: Path) -> None:
    wire = own_certificate(tmp_path / "home")
    with serving(wire) as server, HttpProver(server.url, token="open", certificate=wire.fingerprint) as prover:
        assert server.url.startswith("https://")
        proof = run_panel(
            [Verifier(LocalKey(bytes([1]) * 32))], prover, preset=PRESETS["pilot"], binding=b"b", quorum=1,
            is_measured=False,
        )  # fmt: skip
        assert proof.score.accepted == 1


def test_another_certificate_is_refused_before_a_word_is_sent(tmp_path: Path) -> None:
    wire, other = own_certificate(tmp_path / "one"), own_certificate(tmp_path / "two")
    with serving(wire) as server:
        with pytest.raises(CertificateWrong):
            HttpProver(server.url, token="open", certificate=other.fingerprint)
        with HttpProver(server.url, token="open") as prover, pytest.raises(ServerUnreachable):
            prover.start(PRESETS["pilot"], bytes(32))  # signed by no authority
    with serving(None) as server, pytest.raises(ServerUnreachable):
        pinned("127.0.0.1", server.server_port, wire.fingerprint)


def test_one_who_steps_between_after_the_look_is_refused_too(tmp_path: Path) -> None:
    wire, other = own_certificate(tmp_path / "one"), own_certificate(tmp_path / "two")
    with serving(wire) as server, HttpProver(server.url, token="open", certificate=wire.fingerprint) as prover:
        plain = socket.socket(fileno=server.socket.detach())
        server.socket = other.context().wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ServerUnreachable):
            prover.start(PRESETS["pilot"], bytes(32))


def test_nothing_is_measured_in_plain_off_loopback_unless_told(monkeypatch: Any) -> None:
    with pytest.raises(ServerRefused) as refusal:
        HttpProver("http://192.0.2.1:9444", token="open")
    assert refusal.value.facts["problem_code"] == "plain_http"
    monkeypatch.setenv("GROVE_PLAIN_HTTP", "1")
    with HttpProver("http://192.0.2.1:9444", token="open"):
        pass


def test_a_certificate_is_vouched_for_by_the_machines_key_alone(tmp_path: Path) -> None:
    key, other = create_key(tmp_path / "one"), create_key(tmp_path / "two")
    signature = vouch(key, "ab" * 32)
    assert require_vouched(key.public_bytes, "ab" * 32, signature) == "ab" * 32
    for wrong in ((other.public_bytes, "ab" * 32, signature), (key.public_bytes, "ac" * 32, signature),
                  (key.public_bytes, "ab" * 32, "")):  # fmt: skip
        with pytest.raises(CertificateWrong):
            require_vouched(*wrong)
    with pytest.raises(CertificateWrong):
        require_vouched(key.public_bytes, "ab" * 32, "not hex")


def test_a_re_check_goes_over_tls_under_the_certificate_that_the_machine_signed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in VERIFIERS:
        (tmp_path / name).mkdir()
    key, wire = create_key(home), own_certificate(home)
    door = CheckDoor(
        ("127.0.0.1", 0), key=key, backend="float32", clock=MarketClock(), leases_of=lambda: {LEASE},
        witnesses_of=lambda: [key_of(name).public_bytes.hex() for name in VERIFIERS], wire=wire,
    )  # fmt: skip
    echo = EchoServer(("127.0.0.1", 0), key=key, clock=MarketClock(), devices_of=lambda: {LEASE: 4}, door=door)
    door.start()
    echo.start()
    try:
        one = checker(tmp_path / "oak", "oak")
        order = {"lease": LEASE, "machine": MACHINE, "interval": 0, "machine_key": key.public_bytes.hex(),
                 "probe_address": f"tcp://127.0.0.1:{echo.server_address[1]}"}  # fmt: skip
        from marketplace.agent.checking import Task

        ops, transcript = one.measure(Task(one.clock.now_ms(), order))
        assert ops > 0, one.told
        assert transcript
        other = create_key(tmp_path / "other")
        two = checker(tmp_path / "pine", "pine")
        ops, _ = two.measure(Task(two.clock.now_ms(), order | {"machine_key": other.public_bytes.hex()}))
        assert ops == 0
        assert "did not sign this certificate" in str(two.told["trouble"])
    finally:
        echo.stop()
        door.stop()


def test_a_seat_may_not_start_a_chain_by_itself(tmp_path: Path) -> None:
    with serving(None) as server:
        server.seats["word of a seat"] = "0xSeat"
        with HttpProver(server.url, token="word of a seat") as prover:
            for act in (lambda: prover.start(PRESETS["pilot"], bytes(32)), lambda: prover.commit_block(bytes(32)),
                        lambda: prover.meet("commit", "ab")):  # fmt: skip
                with pytest.raises(ServerRefused) as refusal:
                    act()
                assert refusal.value.facts["problem_code"] == "out_of_turn"

