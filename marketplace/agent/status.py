"""What a machine's own folder says of it, and what the market says where it can be asked."""

from pathlib import Path
from typing import Any

from marketplace.agent import clock, enrolment, keys
from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.errors import AgentError
from marketplace.agent.outflow import hours_taken, pinned_hours
from marketplace.agent.spool import Spool
from marketplace.agent.stand import UNIT


def status_of(home: Path, *, passphrase: bytes | None, api_key: str) -> dict[str, Any]:
    """Key, enrolment, standing, last readings and what waits to be sent. Raises KeyRefused for an unsafe folder.

    A market that does not answer is no refusal: the folder's own part is shown, with the reason for the gap.
    """
    key = keys.load_key(home, passphrase=passphrase)
    market = homes.read_json(home, homes.AGENT_FILE)
    return {
        "home": str(home), "fingerprint": key.fingerprint, "public_key": key.public_bytes.hex(),
        "is_rotating": (home / keys.NEXT_KEY_FILE).exists(), "server": market.get("server"),
        "machine": market.get("machine"), "enrolment": _asked(lambda: enrolment.how_it_stands(home) or None),
        "standing": _asked(lambda: _standing(market, api_key, key.public_bytes.hex())),
        "is_metering": homes.is_in_use(home), "meter": homes.read_json(home, homes.METER_FILE) or None,
        "readings": _readings(home),
    }  # fmt: skip


def _readings(home: Path) -> dict[str, Any]:
    folder = home / "spool"
    if not folder.is_dir():
        return {"kept": 0, "waiting": 0, "egress_waiting": 0, "last": []}
    spool = Spool(folder, is_reader=True)
    now_at = int(clock.now().timestamp())
    taken = hours_taken(folder)
    return {
        "egress_waiting": len(pinned_hours(spool.lines, now_at=now_at, taken=taken)),
        "kept": len(spool.lines), "waiting": len(spool.slots_over(now_at)),
        "oldest_minute_at": spool.lines[0].minute_at if spool.lines else None,
        "last": [{"minute_at": each.minute_at, "up": each.up, "owed": each.owed} for each in spool.lines[-3:]],
    }  # fmt: skip


def _standing(market: dict[str, Any], api_key: str, public_key: str) -> dict[str, Any] | None:
    if not market or not api_key:
        return None
    with ApiClient(market["server"], api_key=api_key, attempts=1) as client:
        if str(market["machine"]).startswith(UNIT):
            called = client.get(f"/api/v1/units/{market['machine']}/roll")["roll"]
            return {"state": "prover of one more unit", "is_called_now": called is not None}
        rows = [row for row in client.rows("/api/v1/capacity") if row["id"] == market["machine"]]
    if not rows:
        return {"state": "unknown", "why": "The market knows no such node class of this API key's party."}
    row = rows[0]
    return {
        "state": row["standing"], "proven_until": row["proven_until"], "resource_class": row["resource_class"],
        "units": row["units"], "is_our_key_in_use": row["machine_key"] == public_key,
    }  # fmt: skip


def _asked(ask: Any) -> Any:
    try:
        return ask()
    except AgentError as error:
        return {"unknown_because": str(error), "code": error.code}
