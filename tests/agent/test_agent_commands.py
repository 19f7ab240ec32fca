"""Every command of the agent, each in a process in which Django and its friends cannot be imported.

Refusals run in this process: a fresh one costs seconds of imports.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from marketplace.agent.__main__ import main, parser
from marketplace.agent.keys import check_enrolment, create_key

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DJANGO = """
import runpy, sys
for name in ("django", "rest_framework", "celery", "kombu", "psycopg", "web3", "ledger"):
    sys.modules[name] = None  # importing it raises ImportError
sys.argv[0] = "agent"
runpy.run_module("marketplace.agent", run_name="__main__", alter_sys=True)
"""
RUN: set[str] = set()  # commands that this module ran, compared with the parser at the end


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    RUN.add(words[0])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WITHOUT_DJANGO, *words],
        cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def agent(*words: object, **environment: str) -> dict[str, object]:
    """What a command printed."""
    process = start(*map(str, words), **environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture
def refused(capsys):
    """The refusal that a command prints."""

    def run(*words: object) -> dict[str, object]:
        assert main([str(word) for word in words]) == 1
        return json.loads(capsys.readouterr().err)

    return run


def test_enrol_makes_a_key_once_and_status_shows_it(tmp_path, refused):
    home = tmp_path / "home"
    missing = refused("status", "--home", home)
    made = agent("enrol", "--home", home, "--token", "one-time")
    shown = agent("status", "--home", home)

    assert missing["code"] == "key_missing"
    assert check_enrolment(made["statement"]).hex() == shown["public_key"]
    assert shown["fingerprint"] == made["fingerprint"]
    assert refused("enrol", "--home", home, "--token", "again")["code"] == "key_exists"


def test_status_refuses_a_key_that_others_may_read(tmp_path, refused):
    create_key(tmp_path / "home")
    (tmp_path / "home" / "machine.key").chmod(0o644)

    refusal = refused("status", "--home", tmp_path / "home")

    assert refusal["code"] == "key_modes_wrong"
    assert "chmod 600" in refusal["title"]


def test_benchmark_proves_and_verify_checks_its_transcript(tmp_path, refused):
    kept = tmp_path / "transcript.json"
    proved = agent("benchmark", "--preset", "demo", "--transcript", kept)
    checked = agent("verify", kept)

    assert proved["accepted"] == 3
    assert checked["transcript_hash"] == proved["transcript_hash"]
    assert checked["ops_per_second"] == proved["ops_per_second"]
    kept.write_bytes(kept.read_bytes().replace(b'"nonce_ns":[', b'"nonce_ns":[1'))
    assert refused("verify", kept)["code"] == "proof_malformed"
    assert refused("verify", tmp_path / "absent")["code"] == "file_refused"


def test_verify_measures_a_machine_that_serves_its_prover(refused):
    token = "t" * 24
    served = start("benchmark", "--listen", "127.0.0.1:0", GROVE_PROVER_TOKEN=token)
    try:
        url = json.loads(served.stdout.readline())["listening"]
        proved = agent("verify", "--prover", url, GROVE_PROVER_TOKEN=token)
        refusal = refused("verify", "--prover", url)  # without the token
    finally:
        served.terminate()
        served.communicate(timeout=20)

    assert (proved["accepted"], proved["backend"]) == (3, "float32")
    assert refusal["code"] == "server_refused"


class Market(BaseHTTPRequestHandler):
    keys: list[str] = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Idempotency-Key"])
        data = json.dumps({"id": "b1"}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def market():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Market)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_bid_submits_a_file_under_a_key_made_from_it(tmp_path, market, monkeypatch, refused):
    file = tmp_path / "bid.json"
    file.write_text('{"window": "w1", "quantity_units": 4}')
    sent = agent("bid", file, "--server", market, GROVE_API_KEY="gx_secret")
    monkeypatch.setenv("GROVE_API_KEY", "gx_secret")
    assert main(["bid", str(file), "--server", market]) == 0

    assert sent["answer"] == {"id": "b1"}
    assert Market.keys == [sent["idempotency_key"]] * 2
    file.write_text("[]")
    assert refused("bid", file, "--server", market)["code"] == "agent_error"


def test_each_command_was_run():
    actions = next(action for action in parser()._actions if action.dest == "command")

    assert set(actions.choices) == RUN
