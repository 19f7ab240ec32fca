"""All machines at once: two that are there answer, one that is listed twice does not."""

from threading import Lock, local

import pytest

from marketplace.agent.attestation import LocalKey
from marketplace.agent.errors import ServerUnreachable
from marketplace.agent.prover import LocalProver
from marketplace.agent.together import call_together
from marketplace.agent.verifier import Verifier
from pricing.errors import MalformedProof
from pricing.proof import Preset
from tests.agent.test_panel import KEYS

TINY = Preset("tiny", size=64, products=1, blocks=4, rows_opened=4, root_deadline_ms=5000)
BLOCK_NS = 100_000_000
# 85 % of what is needed is 90 % of a machine's own pace, and one of two names of one machine comes to half of it.
NEEDED = int(TINY.operations * 10**9 / (TINY.blocks * BLOCK_NS) * 0.9 / 0.85)


class Time(local):
    """The time of one session's thread, which a machine at work moves on: no test machine is too slow for it."""

    now_ns = 0

    def look(self):
        self.now_ns += 1_000
        return self.now_ns


TIME = Time()


class Hardware:
    """What one machine is: it computes one block at a time, each as long."""

    def __init__(self):
        self.lock, self.free_ns = Lock(), 0


class Machine(LocalProver):
    """One piece of hardware under a name; whoever holds it computes on it alone."""

    def __init__(self, hardware):
        super().__init__()
        self.hardware = hardware

    def commit_block(self, nonce):
        with self.hardware.lock:
            TIME.now_ns = self.hardware.free_ns = max(TIME.now_ns, self.hardware.free_ns) + BLOCK_NS
            return super().commit_block(nonce)


class Silent(LocalProver):
    def start(self, preset, seed):
        raise ServerUnreachable("The prover does not answer.")


def panel():
    """A session begins at nought: all of them in the same moment."""
    TIME.now_ns = 0
    return [Verifier(LocalKey(key), monotonic_ns=TIME.look) for key in KEYS]


def call(machines):
    return call_together(machines, panel=panel, preset=TINY, binding=b"roll", ops_needed=NEEDED)


def test_two_machines_answer_and_one_that_is_listed_twice_does_not():
    one = Hardware()

    assert call({"a": Machine(Hardware()), "b": Machine(Hardware())}).answered == ["a", "b"]
    # Whoever gets the hardware first may keep it to its end, but the other name then comes too late.
    assert len(call({"a": Machine(one), "again": Machine(one)}).answered) < 2


def test_a_machine_that_is_silent_takes_nobody_else_s_chance():
    found = call({"a": Machine(Hardware()), "gone": Silent()})

    assert found.answered == ["a"]
    assert found.called["gone"].refusal == "server_unreachable"
    with pytest.raises(MalformedProof):
        call({})
