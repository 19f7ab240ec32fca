"""anvil, a node of another make, for the tests: brought by npm to a cache outside the repository, ended by its pid."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
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


@cache
def installed(package: str) -> Path:
    """The folder with `node_modules` of one pinned package; skips the test, saying why, where npm cannot bring it."""
    if shutil.which("npm") is None:
        pytest.skip(f"npm is not installed, so {package} cannot be brought: interop is NOT tested here")
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
                pytest.skip(f"npm could not bring {package}, so interop is NOT tested here: {error}")
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return place


def anvil_program() -> Path:
    """The program file of anvil for this machine."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    program = installed(ANVIL) / f"node_modules/@foundry-rs/anvil-{platform.system().lower()}-{machine}/bin/anvil"
    if not program.exists():
        pytest.skip(f"{ANVIL} has no program for this machine, so interop is NOT tested here")
    return program


class Anvil:
    """One anvil on loopback; `with` starts it and ends it by its process id."""

    def __init__(self, program: Path, at: datetime) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [
            str(program), "--host", "127.0.0.1", "--port", str(self.port), "--hardfork", "prague", "--silent",
            "--chain-id", str(CHAIN_ID), "--slots-in-an-epoch", str(SLOTS), "--order", "fifo",
            "--timestamp", str(int(at.timestamp()) - 3600), "--accounts", "1", "--prune-history", str(STATES_MAX),
        ]  # fmt: skip
        self.at, self.snapshot = at, None

    def __enter__(self) -> Anvil:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert self.rpc("eth_chainId") == hex(CHAIN_ID)
                return self
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(10)

    def rpc(self, method: str, *params: Any) -> Any:
        """Ask anvil past the code under test."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
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
