"""Gas as committed in `tests/contracts/gas_snapshot.json`; renewed by `python -m tests.benchmarks.gas_snapshot`.

Renew it in the commit that changes the gas, and say there why. A figure that falls needs no renewal to pass; it needs
one to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import gas, gas_run
from tests.contracts import gas_calls

PATH: Final = Path(__file__).parents[1] / "contracts" / "gas_snapshot.json"
SMALL: Final = (120, 10, 12)  # (leases, buyers, payees): the same code as the rows of the benchmark, in seconds
TOLERANCE: Final = 0.01


def rows(cases: tuple[tuple[int, int, int], ...]) -> dict[str, float]:
    """Gas of each row by its name."""
    measured = gas_run.measure_all(cases)
    named: dict[str, float] = {"buyer line": measured["buyer_line"], **measured["single"]}
    for case in measured["cases"]:
        name = f"{case['leases']}/{case['payees']}/{case['buyers']}"
        named[f"settle {name}"] = gas.row_of(case, case["buyers"], case["settle"])["gas"]
        named[f"payee side {name}"] = gas.payee_side_of(case, measured["buyer_line"])["gas"]
        named[f"life {name}"] = gas.life_of(case)["gas"]
    return {name: round(value, 2) for name, value in named.items()}


def committed() -> dict[str, dict[str, float]]:
    """The snapshot: `functions`, `small` and `rows`, each gas by name."""
    snapshot: dict[str, dict[str, float]] = json.loads(PATH.read_text(encoding="ascii"))
    return snapshot


def dearer(now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Sentences on what rose by more than the tolerance, appeared or vanished; empty when all is well."""
    if now.keys() != before.keys():
        return [f"{name} is only in one of the two: renew the snapshot" for name in sorted(now.keys() ^ before.keys())]
    return [
        f"{name}: {now[name]:,.2f} gas after {before[name]:,.2f}, {now[name] / before[name] - 1:+.2%}"
        for name in now
        if now[name] > before[name] * (1 + TOLERANCE)
    ]


def main() -> None:
    """Measure everything and write the snapshot."""
    snapshot: dict[str, Any] = {
        "functions": gas_calls.measured(), "small": rows((SMALL,)), "rows": rows(gas.CASES),
    }  # fmt: skip
    PATH.write_text(json.dumps(snapshot, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
