"""Enrol a machine at a market, and change its key later: acts that may be cut at any point and are simply run again."""

from pathlib import Path
from typing import Any

from marketplace.agent import home as homes
from marketplace.agent import keys
from marketplace.agent.client import ApiClient, SignedClient
from marketplace.agent.errors import KeyExists, KeyMissing

WITNESS_PATH = "/api/v1/witness-keys"
ENROL_PATH, ROTATE_PATH = "/api/v1/machines/enrolments", "/api/v1/machines/rotations"


def enrol(home: Path, *, server: str, token: str, passphrase: bytes | None) -> dict[str, Any]:
    """Make the machine key if there is none, claim the one-time code, and remember the market.

    Raises KeyExists for a machine that is enrolled with another code already, or ServerRefused.
    """
    is_enrolled = bool(homes.read_json(home, homes.AGENT_FILE)) if home.exists() else False
    try:
        key = keys.create_key(home, passphrase=passphrase)
    except KeyExists:
        if is_enrolled:
            raise KeyExists(
                "This machine is enrolled already: --rotate changes its key; after a revocation begin in an empty "
                "folder.", path=str(home / keys.KEY_FILE),
            ) from None  # fmt: skip
        key = keys.load_key(home, passphrase=passphrase)  # an enrolment that was cut half way goes on
    statement = keys.enrolment_statement(key, token)
    with SignedClient(server) as client:
        answer = client.post(ENROL_PATH, statement)
    homes.write_json(home, homes.AGENT_FILE, {"server": server, "machine": answer["machine"], "statement": statement})
    return answer | {"next": "Compare the fingerprint on the page of your node class and accept it there."}


def rotate(home: Path, *, passphrase: bytes | None) -> dict[str, Any]:
    """Make a new key, let the old one sign for it, and use it from then on. The standing stays.

    Raises HomeBusy while the meter runs, ServerRefused for a key that the market does not know as in use. What waits
    to be sent is signed by the new key then: reports are signed when they are sent.
    """
    market = homes.enrolled_at(home)
    with homes.sole_writer(home):
        old = keys.load_key(home, passphrase=passphrase)
        try:
            new = keys.load_key(home, passphrase=passphrase, name=keys.NEXT_KEY_FILE)  # one that was cut half way
        except KeyMissing:
            new = keys.create_key(home, passphrase=passphrase, name=keys.NEXT_KEY_FILE)
        with SignedClient(market["server"]) as client:
            answer = client.post(ROTATE_PATH, keys.rotation_statement(old, new))
        keys.take_next_key(home)
        homes.write_json(home, homes.AGENT_FILE, {"server": market["server"], "machine": market["machine"]})
    return answer


def how_it_stands(home: Path) -> str:
    """What the market says of this machine's enrolment: waiting, accepted or refused; "" where it cannot be asked."""
    market = homes.read_json(home, homes.AGENT_FILE)
    if "statement" not in market:
        return "accepted" if market else ""
    with SignedClient(market["server"], attempts=1) as client:
        return str(client.post(ENROL_PATH, market["statement"])["state"])


def enrol_witness(home: Path, *, server: str, slug: str, api_key: str, passphrase: bytes | None) -> dict[str, Any]:
    """Make the key by which a verifier signs its probes, or a buyer its counter-readings, and enrol it by the API key.

    An earlier key of the party is revoked by it. Cut half way it is simply run again.
    """
    try:
        key = keys.create_key(home, passphrase=passphrase)
    except KeyExists:
        key = keys.load_key(home, passphrase=passphrase)
    statement = keys.enrolment_statement(key, f"witness:{slug}")
    with ApiClient(server, api_key=api_key) as client:
        answer = client.post(WITNESS_PATH, {name: statement[name] for name in ("public_key", "signature")})
    homes.write_json(home, homes.AGENT_FILE, {"server": server, "machine": answer["id"], "witness": slug})
    return answer | {"fingerprint": key.fingerprint}
