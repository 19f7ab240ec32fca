"""The machine's side of a benchmark by the market's verifiers: ask, serve the panel, tell what came of it."""

import secrets
import sys
from threading import Thread
from typing import Any

from marketplace.agent import clock as clocks
from marketplace.agent.attestation import Terms
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.errors import PanelFailed
from marketplace.agent.keys import MachineKey
from marketplace.agent.progress import progress
from marketplace.agent.prover import LocalProver, ProverServer
from marketplace.agent.rechecks import SESSION_SECONDS
from marketplace.agent.sitting import Meeting, seat_token
from marketplace.agent.statements import ChallengeAsk, sign_statement
from marketplace.agent.turns import Turn
from marketplace.agent.wire import Wire
from pricing.proof import Preset

POLL_SECONDS, POLLS_AFTER = 2.0, 20
TOLD = ("id", "state", "resource_class", "standing", "reports", "panel")


class ProverInTurn(LocalProver):
    """Begins its chain when nothing else is measured on this machine: a re-check's session lasts 40 seconds at most."""

    def __init__(self, backend: str, *, key: MachineKey, turn: Turn) -> None:
        super().__init__(backend, key=key)
        self.turn = turn

    def start(self, preset: Preset, seed: bytes) -> None:
        self.turn.take(wait_seconds=SESSION_SECONDS)
        super().start(preset, seed)


def prove_to_market(
    client: ApiClient, address: tuple[str, int], *, key: MachineKey, machine: str, wire: Wire | None,
    clock: MarketClock, turn: Turn, advertise: str = "", kind: int = 1, purpose: str = "demo", backend: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Ask for a challenge, prove to its panel at `address`, and wait for the quorum; the challenge as it stands then.

    `advertise` is where verifiers reach the prover, where that is not its address. Raises PanelFailed where the
    challenge ends without a quorum, or none stands 40 seconds after the session; and as the market refuses.
    """
    asked_ns = clocks.monotonic_ns()
    clock.set_by(client.get("/api/v1/time")["now_ms"], asked_ns=asked_ns)
    prover, secret = ProverInTurn(backend, key=key, turn=turn), secrets.token_hex(24)
    server = ProverServer(address, prover=prover, token=secrets.token_urlsafe(24), wire=wire)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    serving.start()
    try:
        ask = ChallengeAsk(
            machine=_uuid_of(machine), kind=kind, purpose=purpose, prover_url=advertise or server.url,
            certificate=wire.fingerprint if wire else "", token=secret, asked_at_ms=clock.now_ms(),
        )  # fmt: skip
        signed = sign_statement(key, ask)
        opened = client.post(
            "/api/v1/challenges", {"body": signed.body.decode(), "signature": signed.signature.hex()}
        )
        preset = Preset(**opened["preset"])
        server.meeting = meeting = Meeting(
            prover, preset=preset, binding=Terms.from_json(opened["terms"]).binding, seats=opened["panel"]
        )
        server.seats.update({seat_token(secret, seat): seat for seat in opened["panel"]})
        print(f"challenge {opened['id']} at {server.url}: a panel of {len(opened['panel'])} is asked", file=sys.stderr)
        polls_left = POLLS_AFTER
        with progress(f"proving ({preset.name})", preset.blocks) as told:
            while opened["state"] == "open" and polls_left:
                clocks.sleep_seconds(POLL_SECONDS)
                polls_left -= meeting.is_over  # all have said what they saw: who attests does so now
                told(meeting.blocks_done)
                if meeting.is_over or meeting.is_silent:
                    turn.leave()
                opened = client.get(f"/api/v1/challenges/{opened['id']}")
    finally:
        turn.leave()
        server.shutdown()
        serving.join()
        server.server_close()
    if opened["state"] != "attested":
        raise PanelFailed(
            "No quorum of verifiers attested it in time.", challenge=opened["id"], reports=opened["reports"],
            is_session_over=meeting.is_over,
        )  # fmt: skip
    return {name: opened[name] for name in TOLD}


def _uuid_of(machine: str) -> str:
    """The id of a node class as statements write it: a UUID with dashes."""
    from uuid import UUID

    return str(UUID(machine.removeprefix("cls_")))
