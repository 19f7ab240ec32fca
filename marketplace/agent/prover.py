"""The proving side of a session: in this process, or a machine reached over HTTP.

The HTTP form is a few small JSON messages (start, block, open; echo, sweep, sums, read) under a one-time token, off
loopback by TLS (`wire.py`). Verifiers in programs of their own meet there instead (meet; `sitting.py`). The
server offers named presets, with more blocks only up to the memory it was told to show, so that no caller can ask for
more work than that; it serves one session at a time. Echoes are answered beside whatever it computes: a machine that
is busy proving is not farther away.
"""

import hmac
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from marketplace.agent.backends import backend_for
from marketplace.agent.client import refuse_plain_http
from marketplace.agent.errors import OutOfTurn, ServerRefused, ServerUnreachable
from marketplace.agent.keys import MachineKey
from marketplace.agent.wire import Wire, pinned
from pricing.errors import MalformedProof, ProofRefused
from pricing.proof import PRESETS, Commitment, Int64s, Opening, Preset, Prover
from pricing.residency import Read
from pricing.sweep import Words, digest_of, sweep
from pricing.transcript import (
    array_from_json,
    array_to_json,
    canonical_json,
    echo_message,
    opening_from_json,
    opening_to_json,
    read_from_json,
)

BODY_BYTES_MAX = 1 << 20
MEETING_BYTES_MAX = 16 << 20  # a witness brings its opened rows
OF_SEATS = ("/sums", "/read", "/open")
IDLE_SECONDS_MAX = 120  # a kept connection that says nothing is closed


class Meets(Protocol):
    """Where the verifiers of a panel meet (`sitting.py`)."""

    def say(self, seat: str, step: str, what: Any) -> dict[str, Any]:
        """Take what a seat says; the answer to all."""


class ProverSession(Protocol):
    """Whoever proves."""

    backend: str
    machine_key: bytes  # Ed25519 public key that signs its echoes

    def start(self, preset: Preset, seed: bytes) -> None:
        """Take a challenge; whatever was proved before is dropped."""

    def commit_block(self, nonce: bytes) -> Commitment:
        """Compute the next block."""

    def open_rows(self, block: int, rows: Int64s, *, advice: bool = True) -> Opening:
        """Open rows of a committed block; without advice whoever asks computes the products itself."""

    def echo(self, vantage: str, nonce: bytes) -> bytes:
        """Sign a nonce at once."""

    def sweep(self, nonce: bytes, passes: int) -> tuple[bytes, ...]:
        """Read all that is resident `passes` times over; the digest of each pass."""

    def sums(self) -> list[Words]:
        """The sums of the last sweep."""

    def read(self, block: int, row: int) -> Read:
        """One resident row with its path; the time is for whoever asked to fill in."""


class LocalProver:
    """Proves with this process's own processors. Without a machine key it makes one for its lifetime."""

    def __init__(self, backend: str = "float32", *, key: MachineKey | None = None) -> None:
        # An unknown name or a missing library is refused now, not in the middle of a session; "auto" gets its name.
        self.backend = backend_for(backend).name
        self._key = key or MachineKey(Ed25519PrivateKey.generate())
        self.machine_key = self._key.public_bytes
        self._prover: Prover | None = None
        self._seed = b""
        self._sums: list[Words] = []

    def start(self, preset: Preset, seed: bytes) -> None:
        self._seed, self._sums = seed, []
        self._prover = None  # let go of the resident matrices of before: two chains may not fit
        self._prover = Prover(preset=preset, seed=seed, backend=backend_for(self.backend))

    def commit_block(self, nonce: bytes) -> Commitment:
        return self._started.commit_block(nonce)

    def open_rows(self, block: int, rows: Int64s, *, advice: bool = True) -> Opening:
        return self._started.open_rows(block, rows, advice=advice)

    def echo(self, vantage: str, nonce: bytes) -> bytes:
        if not self._seed:
            raise OutOfTurn("No challenge was started.")
        return self._key.sign(echo_message(self._seed, vantage, nonce))

    def sweep(self, nonce: bytes, passes: int) -> tuple[bytes, ...]:
        self._sums = sweep(self._started.resident, nonce, passes)
        return tuple(digest_of(each) for each in self._sums)

    def sums(self) -> list[Words]:
        return self._sums

    def read(self, block: int, row: int) -> Read:
        return Read(block, row, *self._started.read(block, row), elapsed_ns=0)

    @property
    def _started(self) -> Prover:
        if self._prover is None:
            raise OutOfTurn("No challenge was started.")
        return self._prover


class HttpProver:
    """A prover behind a URL. What it answers is material to check, so a wrong shape is MalformedProof."""

    def __init__(self, url: str, *, token: str, certificate: str = "", timeout_seconds: float = 120) -> None:
        """Reach it with its token; under TLS by `certificate`, its SHA-256, or else by a known authority.

        Raises ServerRefused for plain HTTP off this machine, CertificateWrong for another certificate.
        """
        if not token:
            raise ServerRefused("A served prover asks for a token.", problem_code="token_missing")
        refuse_plain_http(url)
        self.backend, self.machine_key = "unknown", b""
        parts = urlsplit(url)
        trusted = pinned(parts.hostname or "", parts.port or 443, certificate) if certificate else True
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_seconds, trust_env=False,
            verify=trusted,
        )  # fmt: skip

    def __enter__(self) -> "HttpProver":
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def start(self, preset: Preset, seed: bytes) -> None:
        asked = {"preset": preset.name, "blocks": preset.blocks, "products": preset.products}
        answer = self._post("start", asked | {"rows_opened": preset.rows_opened, "seed": seed.hex()})
        self.backend = str(answer.get("backend"))[:32]
        self.machine_key = _bytes_of(answer, "machine_key")

    def commit_block(self, nonce: bytes) -> Commitment:
        answer = self._post("block", {"nonce": nonce.hex()})
        return Commitment(*(_bytes_of(answer, name) for name in ("nonce", "rows_root", "columns_root")))

    def open_rows(self, block: int, rows: Int64s, *, advice: bool = True) -> Opening:
        return opening_from_json(self._post("open", {"block": block, "rows": rows.tolist(), "advice": advice}))

    def echo(self, vantage: str, nonce: bytes) -> bytes:
        return _bytes_of(self._post("echo", {"vantage": vantage, "nonce": nonce.hex()}), "signature")

    def sweep(self, nonce: bytes, passes: int) -> tuple[bytes, ...]:
        digests = self._post("sweep", {"nonce": nonce.hex(), "passes": passes}).get("digests")
        if not isinstance(digests, list) or len(digests) != passes:
            raise MalformedProof("A sweep has a digest for each pass.", want=passes)
        return tuple(_bytes_of({"digest": each}, "digest") for each in digests)

    def sums(self) -> list[Words]:
        found = self._post("sums", {}).get("sums")
        try:
            return [array_from_json(each, "<u8") for each in found]  # type: ignore[misc, union-attr]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise MalformedProof("Those are no sums.", cause=type(error).__name__) from error

    def read(self, block: int, row: int) -> Read:
        answer = self._post("read", {"block": block, "row": row})
        return read_from_json(block, row, answer.get("cells"), answer.get("path"), 0)

    def meet(self, step: str, said: Any) -> dict[str, Any]:
        return self._post("meet", {"step": step, "said": said})

    def _post(self, act: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.post(f"/{act}", json=body)
            found = answer.json()
        except httpx.TransportError as error:
            raise ServerUnreachable("The prover does not answer.", cause=type(error).__name__) from error
        except ValueError as error:
            raise MalformedProof("The prover did not answer with JSON.", act=act) from error
        if not isinstance(found, dict):
            raise MalformedProof("The prover did not answer with an object.", act=act)
        if answer.status_code != 200:
            raise ServerRefused(
                str(found.get("title")), problem_code=str(found.get("code", "")), status=answer.status_code
            )
        return found


def _bytes_of(answer: Mapping[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(answer[name])
    except (KeyError, ValueError, TypeError) as error:
        raise MalformedProof("A part of the answer is not in hex.", part=name) from error


class Watched:
    """Another prover, and somebody who is told how many blocks it has done."""

    def __init__(self, prover: ProverSession, told: Callable[[int], None]) -> None:
        self._prover, self._told, self._blocks = prover, told, 0

    @property
    def backend(self) -> str:
        return self._prover.backend

    @property
    def machine_key(self) -> bytes:
        return self._prover.machine_key

    def start(self, preset: Preset, seed: bytes) -> None:
        self._blocks = 0
        self._prover.start(preset, seed)

    def commit_block(self, nonce: bytes) -> Commitment:
        commitment = self._prover.commit_block(nonce)
        self._blocks += 1
        self._told(self._blocks)
        return commitment

    def open_rows(self, block: int, rows: Int64s, *, advice: bool = True) -> Opening:
        return self._prover.open_rows(block, rows, advice=advice)

    def echo(self, vantage: str, nonce: bytes) -> bytes:
        return self._prover.echo(vantage, nonce)

    def sweep(self, nonce: bytes, passes: int) -> tuple[bytes, ...]:
        return self._prover.sweep(nonce, passes)

    def sums(self) -> list[Words]:
        return self._prover.sums()

    def read(self, block: int, row: int) -> Read:
        return self._prover.read(block, row)


class ProverServer(ThreadingHTTPServer):
    """Serves one prover to whoever holds the token. `serve_forever()` runs it, `shutdown()` ends it."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], *, prover: ProverSession, token: str, presets: Mapping[str, Preset] = PRESETS,
        memory_bytes_max: int | None = None, wire: Wire | None = None, meeting: "Meets | None" = None,
        seats: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`seats` are the tokens of a panel, each with its address; who holds one reads and opens, and meets."""
        super().__init__(address, _Handler)
        self.wire, self.meeting, self.seats = wire, meeting, dict(seats or {})
        if wire is not None:  # the handshake is the handler's: a caller that says nothing holds up nobody
            self.socket = wire.context().wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.memory_bytes_max = _half_of_memory() if memory_bytes_max is None else memory_bytes_max
        self.prover = prover
        self.token = token
        self.presets = presets
        self.turn = Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.wire else 'http'}://{self.server_address[0]!s}:{self.server_port}"

    def preset_of(self, body: Mapping[str, Any]) -> Preset:
        """The preset that is asked for. Raises OutOfTurn for more resident blocks than this machine shows."""
        named = self.presets[body["preset"]]
        parts = ("blocks", "products", "rows_opened")
        asked = replace(named, **{name: int(body.get(name, getattr(named, name))) for name in parts})
        held, work = asked.blocks * asked.size**2, asked.blocks * asked.products
        if asked.blocks > named.blocks and held > self.memory_bytes_max:
            raise OutOfTurn("This prover does not keep so much.", asked=held, memory_bytes_max=self.memory_bytes_max)
        if work > max(named.blocks * named.products, asked.blocks):
            raise OutOfTurn("This prover does not compute so much.", products=work)
        return asked


def _is_same(token: str, given: str) -> bool:
    return hmac.compare_digest(token.encode(), given.encode())


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class _Handler(BaseHTTPRequestHandler):
    server: ProverServer
    protocol_version = "HTTP/1.1"  # a kept connection: an echo is one round trip, not two
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS_MAX

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= (MEETING_BYTES_MAX if self.path == "/meet" else BODY_BYTES_MAX):
            self.close_connection = True  # what was announced is not read
            return self._answer(413, {"code": "too_large", "title": "The message is empty or too large."})
        data = self.rfile.read(length)  # before any refusal: an answer over unread bytes may be lost to a reset
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        seat = next((name for token, name in self.server.seats.items() if _is_same(token, given)), "")
        if not seat and not _is_same(self.server.token, given):
            return self._answer(401, {"code": "token_wrong", "title": "Another token is needed."})
        try:
            body = json.loads(data)
            if self.path == "/echo":
                answer = self._echo(body)
            elif seat:
                answer = self._of_seat(seat, body)
            else:
                with self.server.turn:
                    answer = self._act(body)
        except (ProofRefused, OutOfTurn) as error:
            return self._answer(409, {"code": error.code, "title": str(error)})
        except (ValueError, KeyError, TypeError, OverflowError):
            return self._answer(400, {"code": "malformed", "title": "The message cannot be read."})
        self._answer(200, answer)

    def _of_seat(self, seat: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a panel's verifier may ask: the steps of the meeting, and its own rows."""
        if self.path == "/meet" and self.server.meeting is not None:
            return self.server.meeting.say(seat, str(body["step"]), body["said"])
        if self.path not in OF_SEATS:
            raise OutOfTurn("Only all verifiers together start a chain or compute a block.", path=self.path)
        if self.path == "/read":  # it changes nothing, and who waits for another's would find its own late
            return self._act(body)
        with self.server.turn:
            return self._act(body)

    def _echo(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"signature": self.server.prover.echo(str(body["vantage"]), bytes.fromhex(body["nonce"])).hex()}

    def _act(self, body: Mapping[str, Any]) -> dict[str, Any]:
        prover = self.server.prover
        if self.path == "/start":
            prover.start(self.server.preset_of(body), bytes.fromhex(body["seed"]))
            return {"backend": prover.backend, "machine_key": prover.machine_key.hex()}
        if self.path == "/block":
            made = prover.commit_block(bytes.fromhex(body["nonce"]))
            return {
                "nonce": made.nonce.hex(), "rows_root": made.rows_root.hex(), "columns_root": made.columns_root.hex(),
            }  # fmt: skip
        if self.path == "/open":
            rows = np.array(body["rows"], np.int64)
            return opening_to_json(prover.open_rows(int(body["block"]), rows, advice=bool(body.get("advice", True))))
        if self.path == "/sweep":
            digests = prover.sweep(bytes.fromhex(body["nonce"]), int(body["passes"]))
            return {"digests": [each.hex() for each in digests]}
        if self.path == "/sums":
            return {"sums": [array_to_json(each) for each in prover.sums()]}
        if self.path == "/read":
            found = prover.read(int(body["block"]), int(body["row"]))
            return {"cells": array_to_json(found.cells), "path": array_to_json(found.path)}
        raise OutOfTurn("A prover starts, computes blocks, opens rows, reads and echoes; nothing else.", path=self.path)

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        data = canonical_json(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Silent: the caller prints what matters."""
