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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from marketplace.agent.wire import wire_for
from pricing.errors import PricingError
from pricing.presets import TARGET_SECONDS
from pricing.transcript import Transcript, verify_again

if TYPE_CHECKING:
    from marketplace.agent.client import ApiClient
    from marketplace.agent.meter import Meter
    from marketplace.agent.resting import Rest
    from marketplace.agent.stand import Stand

HOME_DEFAULT = Path(os.environ.get("GROVE_AGENT_HOME") or Path.home() / ".grove-agent")
CHALLENGE, BASELINE = 1, 2
ANYWHERE = ("0.0.0.0", "::")
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

    # The market's verifiers take echoes of the enrolled key alone; for a trial any key will do.
    enrolled = (arguments.home / keys.KEY_FILE).exists()
    key = keys.load_key(arguments.home, passphrase=_passphrase(arguments)) if enrolled else None
    if arguments.market:
        if key is None or arguments.listen is None:
            raise UsageWrong("The market's verifiers measure an enrolled machine: enrol it, and say where to --listen.")
        return _serve_panel(arguments, key)
    prover = LocalProver(arguments.backend, key=key)
    if arguments.listen is None:
        with _own_turn(arguments.home if enrolled else None):
            return _prove_before_throw_away_panel(prover, arguments)
    token = os.environ.get("GROVE_PROVER_TOKEN") or secrets.token_urlsafe(24)
    host, port = _address(arguments.listen)
    wire = wire_for(host, arguments.home, certificate=arguments.certificate, key=arguments.certificate_key)
    server = ProverServer((host, port), prover=prover, token=token, wire=wire)
    told = {"listening": server.url, "token": token, "certificate": wire.fingerprint if wire else None}
    print(json.dumps(told), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return {"listening": None}


def verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check a stored transcript again, or a machine that serves a prover; or attest what the market asks for."""
    if arguments.market is not None:
        return _attest_at_market(arguments)
    if arguments.prover is not None:
        from marketplace.agent.prover import HttpProver

        token = os.environ.get("GROVE_PROVER_TOKEN", "")
        with HttpProver(arguments.prover, token=token, certificate=arguments.pin) as prover:
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


def _serve_panel(arguments: argparse.Namespace, key: keys.MachineKey) -> dict[str, Any]:
    """Let the market's verifiers measure this machine together; what the market made of it."""
    from marketplace.agent.clock import MarketClock
    from marketplace.agent.market_proof import prove_to_market
    from marketplace.agent.turns import Turn

    market = homes.enrolled_at(arguments.home)
    host, _ = _address(arguments.listen)
    _require_reachable(arguments, "https://HOST:PORT")
    wire = wire_for(host, arguments.home, certificate=arguments.certificate, key=arguments.certificate_key)
    with _client(market["server"]) as client:
        return prove_to_market(
            client, _address(arguments.listen), key=key, machine=market["machine"], wire=wire, clock=MarketClock(),
            turn=Turn(arguments.home), advertise=arguments.advertise or "",
            kind=BASELINE if arguments.baseline else CHALLENGE, purpose=arguments.preset, backend=arguments.backend,
        )  # fmt: skip


@contextmanager
def _own_turn(home: Path | None) -> Iterator[None]:
    """Nothing else is measured meanwhile on an enrolled machine, for which its meter may run beside this."""
    if home is None:
        yield
        return
    from marketplace.agent.rechecks import SESSION_SECONDS
    from marketplace.agent.turns import Turn

    turn = Turn(home)
    turn.take(wait_seconds=SESSION_SECONDS)
    try:
        yield
    finally:
        turn.leave()


def _attest_at_market(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what this verifier's seat is drawn for, and hand in its signed attestations, until SIGTERM."""
    from threading import Event

    from marketplace.agent.attesting import Attester, load_attester_key
    from marketplace.agent.meter import stop_on_signals

    key = load_attester_key(arguments.key_file, os.environ.get("GROVE_ATTESTER_KEY", ""))
    stop = Event()
    stop_on_signals(stop)
    with _client(arguments.market) as client:
        attester = Attester(client, key=key, stop=stop)
        print(json.dumps({"attesting": key.address}), flush=True)
        return attester.run(once=arguments.once)


def meter(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count, tell and answer until SIGTERM; or send what waits and end."""
    from marketplace.agent.clock import MarketClock
    from marketplace.agent.meter import Meter, flush, stop_on_signals
    from marketplace.agent.outflow import Outflow
    from marketplace.agent.presence import Addresses
    from marketplace.agent.resting import Rest
    from marketplace.agent.sensors import Sensors

    key = keys.load_key(arguments.home, passphrase=_passphrase(arguments))
    market, clock = homes.enrolled_at(arguments.home), MarketClock()
    rest = Rest(rest=arguments.rest, wake=arguments.wake)
    sensors = Sensors(units=arguments.units if not arguments.flush else arguments.units or 1, check=arguments.check)
    outflow = Outflow(
        interfaces=arguments.egress_interface, command=arguments.egress_command, inside=arguments.egress_inside,
        by_lease=arguments.egress_lease_interfaces,
    )
    with homes.sole_writer(arguments.home), _client(market["server"], attempts=1, timeout_seconds=10) as client:
        running = Meter(
            arguments.home, key=key, machine=market["machine"], client=client, sensors=sensors, clock=clock,
            addresses=Addresses(_advertised(arguments), arguments.workload or ""), days_kept=arguments.days,
            outflow=outflow, rest=rest,
        )  # fmt: skip
        if arguments.flush:
            return flush(running)
        stop_on_signals(running.stop)
        with _doors(arguments, running, key=key, rest=rest) as ports:
            print(json.dumps({"metering": market["machine"], **ports}), flush=True)
            running.run()
    return {"metering": None, "waiting": running.waiting}


def stand(arguments: argparse.Namespace) -> dict[str, Any]:
    """Be there as the prover of one more unit, and answer roll calls, until SIGTERM."""
    from marketplace.agent.clock import MarketClock
    from marketplace.agent.meter import stop_on_signals
    from marketplace.agent.resting import Rest
    from marketplace.agent.stand import Stand

    key = keys.load_key(arguments.home, passphrase=_passphrase(arguments))
    market = homes.enrolled_at(arguments.home)
    rest = Rest(rest=arguments.rest, wake=arguments.wake)
    with homes.sole_writer(arguments.home), _client(market["server"], attempts=1, timeout_seconds=10) as client:
        running = Stand(
            arguments.home, key=key, machine=market["machine"], client=client, address=_advertised(arguments),
            clock=MarketClock(),
        )  # fmt: skip
        stop_on_signals(running.stop)
        with _doors(arguments, running, key=key, rest=rest) as ports:
            print(json.dumps({"standing": market["machine"], **ports}), flush=True)
            running.run()
    return {"standing": None}


@contextmanager
def _doors(
    arguments: argparse.Namespace, running: "Meter | Stand", *, key: keys.MachineKey, rest: "Rest"
) -> Iterator[dict[str, int | None]]:
    """Where this machine answers echoes and opens its prover, while it runs; nowhere without --listen."""
    from marketplace.agent.echo import EchoServer
    from marketplace.agent.rechecks import CheckDoor
    from marketplace.agent.turns import Turn

    if not arguments.listen:
        yield {"probe_port": None, "check_port": None}
        return
    place = _prover_address(arguments)
    wire = wire_for(place[0], arguments.home, certificate=arguments.certificate, key=arguments.certificate_key)
    door = CheckDoor(
        place, key=key, backend=arguments.backend, clock=running.clock, leases_of=running.subjects,
        witnesses_of=running.witnesses, rest=rest, turn=Turn(arguments.home), wire=wire,
    )  # fmt: skip
    door.start()
    try:
        echo = EchoServer(
            _address(arguments.listen), key=key, clock=running.clock, devices_of=running.devices, door=door
        )
        echo.start()
        try:
            yield {"probe_port": echo.server_address[1], "check_port": door.port}
        finally:
            echo.stop()
    finally:
        door.stop()


def probe(arguments: argparse.Namespace) -> dict[str, Any]:
    """Probe and measure again what this verifier is ordered to, until SIGTERM."""
    from threading import Thread

    from marketplace.agent.checking import Checker
    from marketplace.agent.clock import MarketClock
    from marketplace.agent.meter import stop_on_signals
    from marketplace.agent.probing import Prober

    key = keys.load_key(arguments.home, passphrase=_passphrase(arguments))
    market = homes.enrolled_at(arguments.home)
    with homes.sole_writer(arguments.home), _client(market["server"], attempts=1, timeout_seconds=10) as client:
        prober = Prober(
            key=key, verifier=market["witness"], client=client, anchors=arguments.anchor, clock=MarketClock()
        )
        checker = Checker(arguments.home, key=key, verifier=market["witness"], client=client, clock=prober.clock)
        checker.stop = prober.stop
        stop_on_signals(prober.stop)
        print(json.dumps({"probing": market["witness"]}), flush=True)
        beside = Thread(target=checker.run, daemon=True)
        beside.start()
        try:
            found = prober.run(minutes=arguments.minutes)
        finally:
            prober.stop.set()
            beside.join(timeout=10)
        return found | {"checks": checker.told}


def _client(server: str, **options: Any) -> "ApiClient":
    from marketplace.agent.client import ApiClient

    return ApiClient(server, api_key=os.environ.get("GROVE_API_KEY", ""), **options)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > PORT_MAX:
        raise UsageWrong("An address to listen at is HOST:PORT.", given=text)
    return host.strip("[]") or "127.0.0.1", int(port)


def _prover_address(arguments: argparse.Namespace) -> tuple[str, int]:
    """Where re-checks are proved: as said, or at the port after the one of the echoes."""
    if arguments.prove:
        return _address(arguments.prove)
    host, port = _address(arguments.listen)
    return host, port + 1 if 0 < port < PORT_MAX else 0


def _advertised(arguments: argparse.Namespace) -> str:
    """Where verifiers reach the echo: as said, or where it listens. Raises UsageWrong for everywhere."""
    if arguments.listen:
        _require_reachable(arguments, "tcp://HOST:PORT")
    if arguments.advertise or not arguments.listen:
        return arguments.advertise or ""
    return f"tcp://{arguments.listen}"


def _require_reachable(arguments: argparse.Namespace, form: str) -> None:
    if _address(arguments.listen)[0] in ANYWHERE and not arguments.advertise:
        raise UsageWrong(f"Who listens everywhere says where it is reached: --advertise {form}.")


def bid(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rehearse the bids of a bid or strategy file at the market, then submit them."""
    from marketplace.agent.bidding import submit_file

    server = arguments.server or homes.read_json(arguments.home, homes.AGENT_FILE).get("server", "")
    with _client(server) as client:
        return submit_file(client, arguments.file, is_rehearsal=arguments.dry_run)


def _prove_before_throw_away_panel(prover: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    from marketplace.agent.attestation import LocalKey
    from marketplace.agent.panel import choose_preset, run_panel
    from marketplace.agent.prover import Watched
    from marketplace.agent.verifier import Verifier

    verifiers = [Verifier(LocalKey(secrets.token_bytes(32)), vantage=f"trial {number}") for number in (1, 2, 3)]
    preset, is_direct = choose_preset(
        verifiers, prover, purpose=arguments.preset, memory_bytes=arguments.memory_mib << 20
    )
    with progress(f"proving ({preset.name})", preset.blocks) as told:
        proof = run_panel(
            verifiers, Watched(prover, told), preset=preset, binding=b"local trial", is_direct=is_direct
        )
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

    wired = argparse.ArgumentParser(add_help=False)
    wired.add_argument("--certificate", type=Path, metavar="PEM", help="of the prover; default off loopback: its own")
    wired.add_argument("--certificate-key", type=Path, metavar="PEM", help="its private key")

    command = commands.add_parser("enrol", parents=[keyed], help="make the machine key and its enrolment statement")
    command.add_argument("--server", metavar="URL", help="the market; without it the statement is only printed")
    command.add_argument("--token", help="one-time code of the onboarding page; better in GROVE_ENROL_TOKEN")
    command.add_argument("--rotate", action="store_true", help="change the key; the old one signs for the new one")
    command.add_argument("--witness", metavar="SLUG", help="at a verifier or buyer: enrol the key that signs reports")
    command.set_defaults(run=enrol)
    command = commands.add_parser("status", parents=[keyed], help="keys, standing, last readings, what waits")
    command.set_defaults(run=status)
    command = commands.add_parser("benchmark", parents=[keyed, trial, wired], help="measure this machine, or serve it")
    command.add_argument("--backend", choices=NAMES, default="auto", help="default: the fastest exact one here")
    command.add_argument("--listen", metavar="HOST:PORT", help="serve the prover; token in GROVE_PROVER_TOKEN")
    command.add_argument("--market", action="store_true", help="let the market's verifiers measure this machine")
    command.add_argument("--advertise", metavar="URL", help="where verifiers reach the prover; default: --listen")
    command.add_argument("--baseline", action="store_true", help="with --market: the proof that ends a probation")
    command.set_defaults(run=benchmark)
    command = commands.add_parser("verify", parents=[trial], help="check a transcript, or a served prover")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("file", type=Path, nargs="?", help="transcript")
    which.add_argument("--prover", metavar="URL", help="served prover; token in GROVE_PROVER_TOKEN")
    which.add_argument("--market", metavar="URL", help="attest as a seated verifier; API key in GROVE_API_KEY")
    command.add_argument("--pin", default="", metavar="SHA256", help="of the served prover's certificate, as it told")
    command.add_argument("--key-file", type=Path, metavar="FILE", help="mode 0600: the attesting key in hex; or "
                         "GROVE_ATTESTER_KEY")  # fmt: skip
    command.add_argument("--once", action="store_true", help="with --market: end after what is asked for now")
    command.set_defaults(run=verify)
    opened = argparse.ArgumentParser(add_help=False)
    opened.add_argument("--listen", metavar="HOST:PORT", help="where probes are answered")
    opened.add_argument("--advertise", metavar="ADDRESS", help="where verifiers reach that; default: --listen")
    opened.add_argument("--prove", metavar="HOST:PORT", help="where it proves; default: the port after")
    opened.add_argument("--backend", choices=NAMES, default="auto", help="that proves; default: the fastest exact")
    opened.add_argument("--rest", metavar="COMMAND", help="stops the workload while it is timed; 2 s at most")
    opened.add_argument("--wake", metavar="COMMAND", help="lets it go on; run in any case, once the 2 s are over")

    command = commands.add_parser(
        "stand", parents=[keyed, wired, opened], help="answer roll calls for one more unit; key in GROVE_API_KEY"
    )
    command.set_defaults(run=stand)
    command = commands.add_parser(
        "meter", parents=[keyed, wired, opened], help="count, tell and answer; key in GROVE_API_KEY"
    )
    command.add_argument("--units", type=int, help="units of the node class at this machine; default: its GPUs")
    command.add_argument("--check", metavar="COMMAND", help="prints how many units answer; run every 5 seconds")
    command.add_argument("--workload", metavar="HOST:PORT", help="where the workload takes connections")
    command.add_argument("--egress-interface", action="append", default=[], metavar="NAME",
                         help="over which a lease's data can leave; bytes it sent are counted")  # fmt: skip
    command.add_argument("--egress-lease-interfaces", action="store_true",
                         help="count each lease on an interface of its own: gx- and the last 12 digits of its id")
    command.add_argument("--egress-command", metavar="COMMAND", help="prints 'DESTINATION BYTES [LEASE]' lines instead")
    command.add_argument("--egress-inside", action="append", default=[], metavar="CIDR",
                         help="what goes there does not leave; with --egress-command")  # fmt: skip
    command.add_argument("--days", type=int, default=7, choices=range(1, 91), metavar="DAYS", help="lines are kept; 7")
    command.add_argument("--flush", action="store_true", help="send what waits and end")
    command.set_defaults(run=meter)
    command = commands.add_parser("probe", parents=[keyed], help="probe, re-check as a verifier; key in GROVE_API_KEY")
    command.add_argument("--anchor", action="append", default=[], metavar="HOST:PORT", help="three of them")
    command.add_argument("--minutes", type=int, help="end after so many; default: at SIGTERM")
    command.set_defaults(run=probe)
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
