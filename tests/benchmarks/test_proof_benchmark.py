"""The benchmark of the proof tells wrong from slow."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.proof import faults_of, rows_of


def figures(caught: int = 1000, accepted: int = 1000, differing: tuple[str, ...] = ()) -> dict[str, Any]:
    row = {
        "backend": "float32", "n": 2048, "gops": 100.0, "efficiency_vs_gemm": 0.5, "prove_seconds": 1.0,
        "verify_total_seconds": 0.5,
    }  # fmt: skip
    return {
        "backends": [row],
        "cheats": {"replay": {"tried": 1000, "caught": caught, "theory": 1.0, "least": 1000.0}},
        "honest": {"float32": {"tried": 1000, "accepted": accepted}},
        "differing": list(differing),
        "absent": {"torch-int8": "torch is not installed."},
    }


def test_a_slow_backend_is_marked_and_is_no_fault() -> None:
    rows = list(rows_of(figures()))

    assert faults_of(figures()) == []
    assert rows[1].endswith("missed")
    assert "torch-int8: not measured. torch is not installed." in rows


def test_a_cheat_that_passes_an_honest_refusal_and_other_bytes_are_faults() -> None:
    assert "replay: caught 999 of 1000" in faults_of(figures(caught=999))[0]
    assert faults_of(figures(accepted=999)) == ["honest float32: 999 of 1000"]
    assert faults_of(figures(differing=("int8",))) == ["int8 commits to other bytes than float32"]
