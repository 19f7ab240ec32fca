"""Every command of the agent, each in a process in which Django and its friends cannot be imported.

Refusals run in this process: a fresh one costs seconds of imports.
"""

import json
import os
import sys

import pytest

from marketplace.agent.__main__ import main, parser
from marketplace.agent.keys import check_enrolment, create_key, load_key
from tests.agent import serving

RUN_AT_A_MARKET = {"bid", "meter", "stand", "probe"}  # test_agent_at_the_market, test_meter, test_stand, test_probing
RUN: set[str] = set()  # commands that this module ran, compared with the parser at the end


def start(*words: object, **environment: str):
    RUN.add(str(words[0]))
    return serving.start(*words, **environment)


def agent(*words: object, **environment: str) -> dict[str, object]:
    RUN.add(str(words[0]))
    return serving.agent(*words, **environment)


@pytest.fixture
def refused(capsys):
    """The refusal that a command prints."""

    def run(*words: object, status: int = 1) -> dict[str, object]:
        assert main([str(word) for word in words]) == status
        return json.loads(capsys.readouterr().err)

    return run


def test_enrol_makes_a_key_once_and_status_shows_it(tmp_path, refused):
    home = tmp_path / "home"
    missing = refused("status", "--home", home, status=4)
    made = agent("enrol", "--home", home, "--token", "one-time")
    shown = agent("status", "--home", home)

    assert missing["code"] == "key_missing"
    assert check_enrolment(made["statement"]).hex() == shown["public_key"]
    assert shown["fingerprint"] == made["fingerprint"]
    assert (shown["enrolment"], shown["readings"]["waiting"], shown["is_metering"]) == (None, 0, False)
    assert refused("enrol", "--home", home, "--token", "again", status=4)["code"] == "key_exists"
    assert refused("enrol", "--home", home, status=2)["code"] == "usage_wrong"
    assert refused("enrol", "--home", home, "--rotate", status=4)["code"] == "not_enrolled"


def test_status_refuses_a_key_that_others_may_read(tmp_path, refused):
    create_key(tmp_path / "home")
    (tmp_path / "home" / "machine.key").chmod(0o644)

    refusal = refused("status", "--home", tmp_path / "home", status=4)

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
    assert refused("verify", tmp_path / "absent", status=2)["code"] == "file_refused"


def test_verify_measures_a_machine_that_serves_its_prover(refused):
    token = "t" * 24
    served = start("benchmark", "--listen", "127.0.0.1:0", GROVE_PROVER_TOKEN=token)
    try:
        url = json.loads(served.stdout.readline())["listening"]
        proved = agent("verify", "--prover", url, GROVE_PROVER_TOKEN=token)
        refusal = refused("verify", "--prover", url)  # without the token
    finally:
        served.terminate()
        served.communicate(timeout=120)

    assert (proved["accepted"], proved["backend"]) == (3, "float32")
    assert refusal["code"] == "server_refused"


def test_a_passphrase_comes_through_a_descriptor_and_is_no_argument(tmp_path, refused):
    home, (reading, writing) = tmp_path / "home", os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"long enough\n")
    try:
        assert main(["enrol", "--home", str(home), "--token", "t", "--passphrase-fd", str(reading)]) == 0
    finally:
        os.close(reading)

    assert load_key(home, passphrase=b"long enough")
    assert refused("status", "--home", home, status=4)["code"] == "passphrase_wrong"


def test_bid_tells_each_mistake_of_a_file_by_line_and_field(tmp_path, refused, monkeypatch):
    monkeypatch.setenv("GROVE_API_KEY", "gx_secret")
    strategy, bid = tmp_path / "s.toml", tmp_path / "b.json"
    strategy.write_text('name = "n"\nfloor_usd = 0\n')
    bid.write_text('{"window":\n}')

    wrong = refused("bid", strategy, "--server", "http://127.0.0.1:1", status=2)
    assert wrong["code"] == "strategy_wrong"
    assert {"line": 2, "field": "floor_usd"}.items() <= wrong["mistakes"][-1].items()
    assert refused("bid", bid, "--server", "http://127.0.0.1:1", status=2)["mistakes"][0]["line"] == 2
    assert refused("bid", bid, "--server", "nowhere")["code"] == "server_refused"


def test_at_a_terminal_a_refusal_is_plain_lines(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GROVE_API_KEY", "gx_secret")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    strategy = tmp_path / "s.toml"
    strategy.write_text('name = "n"\nfloor_usd = 0\n')

    assert main(["bid", str(strategy), "--server", "http://127.0.0.1:1"]) == 2

    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("(strategy_wrong)")
    assert any(line.startswith("  line 2: floor_usd: write dollars") for line in told)


def test_each_command_was_run():
    actions = next(action for action in parser()._actions if action.dest == "command")

    assert set(actions.choices) == RUN | RUN_AT_A_MARKET
