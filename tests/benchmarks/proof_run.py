"""Measures `bench proof`; run by `tests.benchmarks.process`."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is loaded: one core proves, one core checks

from collections.abc import Mapping  # noqa: E402
from importlib.metadata import PackageNotFoundError, version  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from statistics import median  # noqa: E402
from time import perf_counter, process_time  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from marketplace.agent.backends import backend_for, backends_present, cuda_missing  # noqa: E402
from pricing.errors import ProofRefused  # noqa: E402
from pricing.proof import Checker, Preset, Prover, mix, nonce_rows, weights_of  # noqa: E402
from pricing.transcript import canonical_json, opening_to_json  # noqa: E402
from tests.benchmarks import process  # noqa: E402
from tests.pricing import cheats  # noqa: E402

PRODUCTS, BLOCKS, ROWS = 8, 2, 32  # L, B, q of the measured chain; B is short, since every block costs the same
HONEST_SIZE = 256


def main(asked: Mapping[str, Any]) -> dict[str, Any]:
    """All figures."""
    present = backends_present()
    return {
        "backends": [measure(name, size, asked["turns"]) for size in asked["sizes"] for name in present],
        "honest": {name: honest(name, asked["honest"]) for name in present},
        "cheats": {name: cheat(name, asked["attempts"]) for name in cheats.ATTEMPTS},
        "differing": [name for name in present[1:] if not same_bytes(name)],
        "absent": absent(present),
        "versions": {name: version_of(name) for name in ("numpy", "onnxruntime", "torch")},
    }


def measure(name: str, size: int, turns: int) -> dict[str, Any]:
    """One backend at one size: medians over `turns`, bare products and whole chains in turn."""
    preset = Preset("bench", size=size, products=PRODUCTS, blocks=BLOCKS, rows_opened=ROWS, root_deadline_ms=10**6)
    backend = backend_for(name)
    backend.load(weights_of(cheats.secret("seed", 0), size))
    multiply = bare_product(name, backend, size)
    # Processor time of the one thread: on a shared machine wall time measures the neighbours. A device is waited for.
    clock = perf_counter if name == "torch-int8" else process_time
    gemm, prove, offline, online, sent = [], [], [], [], 0
    multiply()
    for turn in range(turns):
        gemm.append(timed(multiply, clock))
        prover = Prover(preset=preset, seed=cheats.secret("seed", turn), backend=backend)
        nonces = cheats.nonces_of(turn, preset)
        started = clock()
        commitments = [prover.commit_block(nonce) for nonce in nonces]
        prove.append(clock() - started)
        started = process_time()
        checker = Checker(preset=preset, seed=cheats.secret("seed", turn), entropy=cheats.secret("entropy", turn))
        offline.append(process_time() - started)
        openings = [prover.open_rows(block, checker.draw_rows(block)) for block in range(BLOCKS)]
        started = process_time()
        checker.check(nonces, commitments, openings)
        online.append(process_time() - started)
        sent = sum(len(canonical_json(opening_to_json(opening))) for opening in openings)
    gops = preset.operations / median(prove) / 1e9
    whole = median(a + b for a, b in zip(offline, online, strict=True))
    return {
        "backend": name, "n": size, "L": PRODUCTS, "B": BLOCKS, "q": ROWS, "gops": gops,
        "efficiency_vs_gemm": median(
            preset.operations / spent / (2 * size**3 / bare) for spent, bare in zip(prove, gemm, strict=True)
        ),
        "prove_seconds": median(prove), "verify_online_seconds": median(online), "verify_total_seconds": whole,
        "asymmetry": median(prove) / whole, "bytes": sent,
    }  # fmt: skip


def bare_product(name: str, backend: Any, size: int) -> Any:
    """The library's own multiplication of two full matrices, without anything around it."""
    rows = mix(None, nonce_rows(cheats.secret("bare"), None, size))
    if name.startswith("float"):
        left, out = rows.astype(name), np.empty((size, size), name)
        return lambda: np.matmul(left, backend._weights, out=out)
    if name == "torch-int8":
        left = backend._to_device(rows)

        def on_device() -> None:
            backend._multiply(left)
            backend._torch.cuda.synchronize()

        return on_device
    # Bound to arrays of our own as in the chain: without it the library would pay for an allocation and a copy.
    shifted, product = rows.view(np.uint8) + np.uint8(32), np.empty(rows.shape, np.int32)
    return lambda: backend._session.run_with_iobinding(backend._bind(shifted, product))


def timed(act: Any, clock: Any) -> float:
    started = clock()
    act()
    return clock() - started


def honest(name: str, count: int) -> dict[str, int]:
    """Honest provers at n = 256, every other one in direct mode."""
    preset = Preset("honest", size=HONEST_SIZE, products=2, blocks=2, rows_opened=4, root_deadline_ms=1000)
    accepted = 0
    for run in range(count):
        try:
            cheats.check(cheats.session(run, preset=preset, backend=backend_for(name), advice=run % 2 == 0))
            accepted += 1
        except ProofRefused:
            pass
    return {"tried": count, "accepted": accepted}


def cheat(name: str, count: int) -> dict[str, Any]:
    """One cheat."""
    caught, least = cheats.tried(name, count)
    return {"tried": count, "caught": caught, "theory": cheats.theory(name), "least": least}


def same_bytes(name: str) -> bool:
    """Whether a backend commits to the roots of float32."""
    preset = Preset("same", size=1024, products=3, blocks=2, rows_opened=4, root_deadline_ms=1000)
    made = [
        Prover(preset=preset, seed=cheats.secret("same"), backend=backend_for(each)) for each in ("float32", name)
    ]
    return all(
        made[0].commit_block(nonce) == made[1].commit_block(nonce) for nonce in cheats.nonces_of(0, preset)
    )


def absent(present: list[str]) -> dict[str, str]:
    """Backends that this machine cannot run, each with its reason."""
    no_runtime = "" if find_spec("onnxruntime") else "onnxruntime is not installed."
    reasons = {"int8": no_runtime, "torch-int8": cuda_missing()}
    return {name: why for name, why in reasons.items() if name not in present}


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    process.answer(main(process.request()))
