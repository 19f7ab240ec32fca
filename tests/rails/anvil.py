"""anvil, a node of another make, for the tests: brought by npm to a cache outside the repository, ended by its pid."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from ledger.ids import uuid_from
from ledger.rails.signer import signer

ANVIL = "@foundry-rs/anvil@1.7.1"
ETHERS = "ethers@6.15.0"
CHAIN_ID = 31338
SLOTS = 8  # safe = head - 8, finalized = head - 16
STATES_MAX = 20_000  # anvil keeps 500 by itself, and after that many blocks it loses those of a branch it goes back to
FINAL_AFTER = 2 * SLOTS
RICH_WEI = hex(10**24)
SENDERS = ("deployer", "operator", "custody", "anchor", "faucet", "pauser", f"buyer:{uuid_from('buyer')}",
           f"provider:{uuid_from('provider')}")  # fmt: skip
INSTALL_SECONDS_MAX = 180
# These only end what hangs: a node that has died is noticed at once, and a busy machine is waited for.
START_SECONDS_MAX, ANSWER_SECONDS_MAX = 300, 120
LISTENS = re.compile(rb"Listening on (127\.0\.0\.1:\d+)")


def installed(package: str) -> Path:
    """The folder with `node_modules` of one pinned package; skips the test, saying why, where npm cannot bring it."""
    place = _brought(package)
    if isinstance(place, str):
        pytest.skip(place)
    return place


@cache  # npm that cannot reach anything takes minutes to say so: it is asked once, not by every test
def _brought(package: str) -> Path | str:
    """The folder, or why there is none."""
    if shutil.which("npm") is None:
        return f"npm is not installed, so {package} cannot be brought: interop is NOT tested here"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()) / f"grove-{os.getuid()}")
    place = home / "grove-exchange-node-tools" / package.replace("/", "-")
    if not (place / "node_modules").is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=place.parent))
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts",
                   "--prefix", str(draft), package]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS_MAX, text=True)
            os.rename(draft, place)  # whole or not at all; another worker may have been first
        except (subprocess.SubprocessError, OSError) as error:
            if not (place / "node_modules").is_dir():
                return f"npm could not bring {package}, so interop is NOT tested here: {error}"
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return place


def anvil_program() -> Path:
    """The program file of anvil for this machine."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    program = installed(ANVIL) / f"node_modules/@foundry-rs/anvil-{platform.system().lower()}-{machine}/bin/anvil"
    if not _runs(program):
        pytest.skip(f"{ANVIL} has no program that runs on this machine, so interop is NOT tested here")
    return program


@cache
def _runs(program: Path) -> bool:
    """Say whether the program is there and this system's libraries are new enough for it."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def start_anvil(*habits: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start one that keeps the states of all its blocks; return it and its URL once it listens.

    The system gives it its port: one that was free a moment ago may be another worker's by the time it is bound.
    """
    command = [str(anvil_program()), "--host", "127.0.0.1", "--port", "0", "--accounts", "1", "--hardfork", "prague",
               "--prune-history", str(STATES_MAX), *habits]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while True:
            told = os.pread(said.fileno(), 1 << 20, 0)
            if found := LISTENS.search(told):
                return process, f"http://{found[1].decode()}"
            if process.poll() is not None or time.monotonic() > give_up_at:
                end_anvil(process)
                raise RuntimeError(f"anvil did not start: {told[-2_000:].decode(errors='replace')}")
            time.sleep(0.02)


def end_anvil(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it is worth keeping."""
    process.kill()
    process.wait()


class Anvil:
    """One anvil on loopback; `with` starts it and ends it by its process id."""

    def __init__(self, at: datetime) -> None:
        self.at, self.snapshot = at, None

    def __enter__(self) -> Anvil:
        self.process, self.url = start_anvil(
            "--chain-id", str(CHAIN_ID), "--slots-in-an-epoch", str(SLOTS), "--order", "fifo",
            "--timestamp", str(int(self.at.timestamp()) - 3600),
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end_anvil(self.process)

    def rpc(self, method: str, *params: Any) -> Any:
        """Ask anvil past the code under test."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:
            told = json.load(answer)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']}")
        return told["result"]

    def begin(self, deploy: Callable[[], Any]) -> None:
        """Go back to the deployed state; the first call makes it."""
        if self.snapshot is not None:
            assert self.rpc("evm_revert", self.snapshot)
        else:
            for role in SENDERS:
                self.rpc("anvil_setBalance", signer().address(role), RICH_WEI)
            deploy()
            self.mine(FINAL_AFTER)
        self.snapshot = self.rpc("evm_snapshot")
        self.rpc("evm_setTime", int(self.at.timestamp()))  # the revert took back blocks, not the node's clock
        self.mine()

    def mine(self, blocks: int = 1) -> None:
        """Mine waiting transactions, then empty blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def finalize(self) -> None:
        """Let everything that is in a block become final."""
        self.mine(FINAL_AFTER)

    def reorg(self, depth: int, again: tuple[bytes, ...] = ()) -> None:
        """Replace the newest `depth` blocks by others that hold only the transactions of `again`, in their first."""
        self.rpc("anvil_reorg", depth, [["0x" + raw.hex(), 0] for raw in again])

    def pass_time(self, seconds: float) -> None:
        """Let the node's clock run ahead."""
        self.rpc("evm_increaseTime", hex(int(seconds)))
        self.mine()
