"""All machines at once: two that are there answer, one that is listed twice does not."""

from threading import Lock
from time import sleep

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
BLOCK_SECONDS = 0.1
# 85 % of what is needed is 60 % of a machine's own pace: half of it is too little, a busy test machine is enough.
NEEDED = int(TINY.operations / (TINY.blocks * BLOCK_SECONDS) * 0.6 / 0.85)


class Machine(LocalProver):
    """One piece of hardware with a pace of its own; whoever holds it computes on it alone."""

    def __init__(self, hardware):
        super().__init__()
        self.hardware = hardware

    def commit_block(self, nonce):
        with self.hardware:
            sleep(BLOCK_SECONDS)
            return super().commit_block(nonce)


class Silent(LocalProver):
    def start(self, preset, seed):
        raise ServerUnreachable("The prover does not answer.")


def call(machines):
    return call_together(
        machines, panel=lambda: [Verifier(LocalKey(key)) for key in KEYS], preset=TINY, binding=b"roll",
        ops_needed=NEEDED,
    )


def test_two_machines_answer_and_one_that_is_listed_twice_does_not():
    one, two = Lock(), Lock()

    assert call({"a": Machine(one), "b": Machine(two)}).answered == ["a", "b"]
    # Whoever gets the hardware first may keep it to its end, but the other name then comes too late.
    assert len(call({"a": Machine(one), "again": Machine(one)}).answered) < 2


def test_a_machine_that_is_silent_takes_nobody_else_s_chance():
    found = call({"a": Machine(Lock()), "gone": Silent()})

    assert found.answered == ["a"]
    assert found.called["gone"].refusal == "server_unreachable"
    with pytest.raises(MalformedProof):
        call({})
