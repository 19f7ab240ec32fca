"""`python -m marketplace.agent COMMAND`: the program at the provider and at the verifier. It needs no Django.

Each command prints one JSON object. A refusal goes to standard error: one JSON object, or plain lines at a terminal.
Secrets come from the environment or from a file descriptor, never as an argument that other users can read.

    exit status   0  done
                  1  refused, by the market or by a check
                  2  the command line or a file is wrong
                  3  nothing answers; the same command may be run again
                  4  the key or its folder is missing, unsafe or in use
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marketplace.agent import home as homes
from marketplace.agent import keys
from marketplace.agent.backends import NAMES
from marketplace.agent.errors import (
    AgentError,
    HomeBusy,
    KeyRefused,
    ServerUnreachable,
    StrategyWrong,
    UsageWrong,
)
from marketplace.agent.progress import progress
from pricing.errors import PricingError
from pricing.proof import PRESETS
from pricing.transcript import verify_again

if TYPE_CHECKING:
    from marketplace.agent.client import ApiClient

HOME_DEFAULT = Path(os.environ.get("GROVE_AGENT_HOME") or Path.home() / ".grove-agent")
SECRET_BYTES_MAX, PORT_MAX = 4096, 65535


def enrol(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the machine key and claim the one-time code; or change the key of a machine that is enrolled."""
    from marketplace.agent import enrolment

    passphrase = _passphrase(arguments)
    if arguments.witness:
        return enrolment.enrol_witness(
            arguments.home, server=arguments.server or "", slug=arguments.witness,
            api_key=os.environ.get("GROVE_API_KEY", ""), passphrase=passphrase,
        )  # fmt: skip
    if arguments.rotate:
        return enrolment.rotate(arguments.home, passphrase=passphrase)
    token = arguments.token or os.environ.get("GROVE_ENROL_TOKEN", "")
    if not token:
        raise UsageWrong("Enrolment asks for --token, or GROVE_ENROL_TOKEN: the one-time code of the page.")
    if arguments.server:
        return enrolment.enrol(arguments.home, server=arguments.server, token=token, passphrase=passphrase)
    key = keys.create_key(arguments.home, passphrase=passphrase)
    return {"fingerprint": key.fingerprint, "statement": keys.enrolment_statement(key, token)}


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the key, how it stands at the market, the last readings, and what waits to be sent."""
    from marketplace.agent.status import status_of

    return status_of(arguments.home, passphrase=_passphrase(arguments), api_key=os.environ.get("GROVE_API_KEY", ""))


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prove before three throw-away verifiers here, or serve a prover to a verifier elsewhere."""
    from marketplace.agent.prover import LocalProver, ProverServer

    prover = LocalProver(arguments.backend)
    if arguments.listen is None:
        return _prove_before_throw_away_panel(prover, arguments)
    token = os.environ.get("GROVE_PROVER_TOKEN") or secrets.token_urlsafe(24)
    server = ProverServer(_address(arguments.listen), prover=prover, token=token)
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
    score = verify_again(arguments.file.read_bytes(), entropy=secrets.token_bytes(32))
    return {
        "verified": True,
        "transcript_hash": score.transcript_hash.hex(),
        "accepted": score.accepted,
        "ops_per_second": score.ops_per_second,
        "elapsed_ns": score.elapsed_ns,
    }


def _client(server: str, **options: Any) -> "ApiClient":
    from marketplace.agent.client import ApiClient

    return ApiClient(server, api_key=os.environ.get("GROVE_API_KEY", ""), **options)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > PORT_MAX:
        raise UsageWrong("An address to listen at is HOST:PORT.", given=text)
    return host.strip("[]") or "127.0.0.1", int(port)


def bid(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rehearse the bids of a bid or strategy file at the market, then submit them."""
    from marketplace.agent.bidding import submit_file

    server = arguments.server or homes.read_json(arguments.home, homes.AGENT_FILE).get("server", "")
    with _client(server) as client:
        return submit_file(client, arguments.file, is_rehearsal=arguments.dry_run)


def _prove_before_throw_away_panel(prover: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    from marketplace.agent.attestation import LocalKey
    from marketplace.agent.panel import run_panel
    from marketplace.agent.prover import Watched
    from marketplace.agent.verifier import Verifier

    preset = PRESETS[arguments.preset]
    verifiers = [Verifier(LocalKey(secrets.token_bytes(32))) for _ in range(3)]
    with progress(f"proving ({preset.name})", preset.blocks) as told:
        proof = run_panel(verifiers, Watched(prover, told), preset=preset, binding=b"local trial")
    light = proof.transcript.light().to_bytes()
    if arguments.transcript is not None:
        arguments.transcript.write_bytes(light)
    return {
        "preset": preset.name,
        "backend": proof.transcript.backend,
        "ops_per_second": proof.score.ops_per_second,
        "elapsed_ns": proof.score.elapsed_ns,
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
    trial.add_argument("--preset", choices=sorted(PRESETS), default="demo")
    trial.add_argument("--transcript", type=Path, help="where to keep the transcript")

    command = commands.add_parser("enrol", parents=[keyed], help="make the machine key and its enrolment statement")
    command.add_argument("--server", metavar="URL", help="the market; without it the statement is only printed")
    command.add_argument("--token", help="one-time code of the onboarding page; better in GROVE_ENROL_TOKEN")
    command.add_argument("--rotate", action="store_true", help="change the key; the old one signs for the new one")
    command.add_argument("--witness", metavar="SLUG", help="at a verifier or buyer: enrol the key that signs reports")
    command.set_defaults(run=enrol)
    command = commands.add_parser("status", parents=[keyed], help="keys, standing, last readings, what waits")
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
    command = commands.add_parser("bid", parents=[keyed], help="submit a bid or strategy file; key in GROVE_API_KEY")
    command.add_argument("file", type=Path, help="a strategy in TOML, or one bid in a .json file")
    command.add_argument("--server", metavar="URL", help="default: the one this machine enrolled at")
    command.add_argument("--dry-run", action="store_true", help="show what would be sent, checked by the market")
    command.set_defaults(run=bid)
    return top


def exit_status(error: Exception) -> int:
    """The exit status of a refusal: see the table at the top."""
    if isinstance(error, ServerUnreachable):
        return 3
    if isinstance(error, KeyRefused | HomeBusy):
        return 4
    return 2 if isinstance(error, UsageWrong | StrategyWrong) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    arguments = parser().parse_args(words)
    try:
        found = arguments.run(arguments)
    except (AgentError, PricingError) as error:
        _tell({"code": error.code, "title": str(error), **error.facts})
        return exit_status(error)
    except (OSError, UnicodeDecodeError) as error:
        _tell({"code": "file_refused", "title": str(error)})
        return 2
    print(json.dumps(found, indent=2))
    return 0


def _tell(refusal: dict[str, Any]) -> None:
    """A sentence and its facts for people at a terminal, one JSON object for programs."""
    if not sys.stderr.isatty():
        print(json.dumps(refusal, default=str), file=sys.stderr)
        return
    print(f"{refusal.pop('title')} ({refusal.pop('code')})", file=sys.stderr)
    for mistake in refusal.pop("mistakes", []):
        print(f"  line {mistake['line']}: {mistake['field'] or 'file'}: {mistake['why']}", file=sys.stderr)
    for name, fact in refusal.items():
        print(f"  {name}: {fact}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
