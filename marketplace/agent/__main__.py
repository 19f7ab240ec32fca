"""`python -m marketplace.agent COMMAND`: the program at the provider and at the verifier. It needs no Django.

Each command prints one JSON object. A refusal goes to standard error as one JSON object too, with exit status 1.
Secrets come from the environment or from a file descriptor, never as an argument that other users can read.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marketplace.agent import keys
from marketplace.agent.backends import NAMES
from marketplace.agent.errors import AgentError
from pricing.errors import PricingError
from pricing.presets import TARGET_SECONDS
from pricing.transcript import Transcript, verify_again

HOME_DEFAULT = Path(os.environ.get("GROVE_AGENT_HOME") or Path.home() / ".grove-agent")
SECRET_BYTES_MAX = 4096


def enrol(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the machine key; print the statement that the onboarding page takes."""
    key = keys.create_key(arguments.home, passphrase=_passphrase(arguments))
    return {"fingerprint": key.fingerprint, "statement": keys.enrolment_statement(key, arguments.token)}


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the machine key."""
    key = keys.load_key(arguments.home, passphrase=_passphrase(arguments))
    return {"home": str(arguments.home), "fingerprint": key.fingerprint, "public_key": key.public_bytes.hex()}


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prove before three throw-away verifiers here, or serve a prover to a verifier elsewhere."""
    from marketplace.agent.prover import LocalProver, ProverServer

    prover = LocalProver(arguments.backend)
    if arguments.listen is None:
        return _prove_before_throw_away_panel(prover, arguments)
    host, _, port = arguments.listen.rpartition(":")
    token = os.environ.get("GROVE_PROVER_TOKEN") or secrets.token_urlsafe(24)
    server = ProverServer((host or "127.0.0.1", int(port)), prover=prover, token=token)
    print(json.dumps({"listening": server.url, "token": token}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return {"listening": None}


def verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check a stored transcript again with fresh randomness, or a machine that serves a prover."""
    if arguments.prover is not None:
        from marketplace.agent.prover import HttpProver

        with HttpProver(arguments.prover, token=os.environ.get("GROVE_PROVER_TOKEN", "")) as prover:
            return _prove_before_throw_away_panel(prover, arguments)
    from marketplace.agent.measuring import check_echoes

    data = arguments.file.read_bytes()
    score = verify_again(data, entropy=secrets.token_bytes(32))
    check_echoes(Transcript.from_bytes(data))
    return {
        "verified": True,
        "transcript_hash": score.transcript_hash.hex(),
        "accepted": score.accepted,
        "ops_per_second": score.ops_per_second,
        "elapsed_ns": score.elapsed_ns,
    }


def bid(arguments: argparse.Namespace) -> dict[str, Any]:
    """Submit one bid from a JSON file."""
    from marketplace.agent.client import ApiClient, key_of

    try:
        body = json.loads(arguments.file.read_text())
    except ValueError as error:
        raise AgentError("The bid file is no JSON.", path=str(arguments.file)) from error
    if not isinstance(body, dict):
        raise AgentError("A bid file holds one JSON object.", path=str(arguments.file))
    key = arguments.idempotency_key or key_of(body)
    with ApiClient(arguments.server, api_key=os.environ.get("GROVE_API_KEY", "")) as client:
        return {"idempotency_key": key, "answer": client.post_bid(body, idempotency_key=key)}


def _prove_before_throw_away_panel(prover: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    from marketplace.agent.attestation import LocalKey
    from marketplace.agent.panel import choose_preset, run_panel
    from marketplace.agent.verifier import Verifier

    verifiers = [Verifier(LocalKey(secrets.token_bytes(32)), vantage=f"trial {number}") for number in (1, 2, 3)]
    preset, is_direct = choose_preset(
        verifiers, prover, purpose=arguments.preset, memory_bytes=arguments.memory_mib << 20
    )
    proof = run_panel(verifiers, prover, preset=preset, binding=b"local trial", is_direct=is_direct)
    light = proof.transcript.light().to_bytes()
    if arguments.transcript is not None:
        arguments.transcript.write_bytes(light)
    return {
        "preset": preset.name,
        "backend": proof.transcript.backend,
        "ops_per_second": proof.score.ops_per_second,
        "elapsed_ns": proof.score.elapsed_ns,
        "jitter_bps": proof.score.jitter_bps,
        "resident_bytes": proof.score.resident_bytes,
        "sweep_bytes_per_second": proof.score.sweep_bytes_per_second,
        "within_km_of": dict(proof.score.radii),
        "accepted": proof.score.accepted,
        "refusals": dict(proof.refusals),
        "transcript_hash": proof.score.transcript_hash.hex(),
        "worth": "A trial: no class and no standing without a quorum of the market's verifiers.",
    }


def _passphrase(arguments: argparse.Namespace) -> bytes | None:
    if arguments.passphrase_fd is None:
        return None
    with os.fdopen(arguments.passphrase_fd, "rb", closefd=False) as file:
        return file.read(SECRET_BYTES_MAX).rstrip(b"\r\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m marketplace.agent", description="The Grove Exchange agent.")
    commands = top.add_subparsers(dest="command", required=True)

    keyed = argparse.ArgumentParser(add_help=False)
    keyed.add_argument("--home", type=Path, default=HOME_DEFAULT, help="folder of the machine key, mode 0700")
    keyed.add_argument("--passphrase-fd", type=int, help="descriptor from which the key's passphrase is read")
    trial = argparse.ArgumentParser(add_help=False)
    trial.add_argument(
        "--preset", choices=sorted(TARGET_SECONDS), default="demo", help="the size of its chain follows from a pilot"
    )
    trial.add_argument("--memory-mib", type=int, default=0, metavar="MIB", help="memory to show; default: as it comes")
    trial.add_argument("--transcript", type=Path, help="where to keep the transcript")

    command = commands.add_parser("enrol", parents=[keyed], help="make the machine key and its enrolment statement")
    command.add_argument("--token", required=True, help="one-time token of the onboarding page")
    command.set_defaults(run=enrol)
    command = commands.add_parser("status", parents=[keyed], help="show the machine key")
    command.set_defaults(run=status)
    command = commands.add_parser("benchmark", parents=[trial], help="measure this machine, or serve its prover")
    command.add_argument("--backend", choices=NAMES, default="auto", help="default: the fastest exact one here")
    command.add_argument("--listen", metavar="HOST:PORT", help="serve the prover; token in GROVE_PROVER_TOKEN")
    command.set_defaults(run=benchmark)
    command = commands.add_parser("verify", parents=[trial], help="check a transcript, or a served prover")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("file", type=Path, nargs="?", help="transcript")
    which.add_argument("--prover", metavar="URL", help="served prover; token in GROVE_PROVER_TOKEN")
    command.set_defaults(run=verify)
    command = commands.add_parser("bid", help="submit a bid file; API key in GROVE_API_KEY")
    command.add_argument("file", type=Path)
    command.add_argument("--server", required=True, metavar="URL")
    command.add_argument("--idempotency-key", help="default: made from the bid, so a file sent twice is one bid")
    command.set_defaults(run=bid)
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked, 1 if it was refused."""
    arguments = parser().parse_args(words)
    try:
        found = arguments.run(arguments)
    except (AgentError, PricingError) as error:
        refusal = {"code": error.code, "title": str(error), **error.facts}
        print(json.dumps(refusal, default=str), file=sys.stderr)
        return 1
    except OSError as error:
        print(json.dumps({"code": "file_refused", "title": str(error)}), file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
