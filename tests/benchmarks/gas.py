"""The benchmark of gas: `manage.py bench gas`.

Real bytecode and real signatures on the test chain (Prague rules), in a process of its own. Gas does not swing: the
same sources give the same figures on every machine. Beside each row stands its floor from the price list
(`gas_floor`). Exit 1 only where a figure lies under its floor, which would be a mistake of ours.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks import gas_floor, process
from tests.benchmarks.clearing import Tell
from tests.benchmarks.report import Report, table

HELP = "gas of settling and of a lease's whole life, beside the floor of the EVM's price list and other contracts"
LEASES = 500
GOALS = {"settle": 900, "payee_side": 900, "life": 5_000, "distinct_over_floor": 0.05, "erc20_transfer": 33_812}
# (leases, buyers, payees)
SHARED, SHARED_WIDE, DISTINCT = (LEASES, 10, 50), (LEASES, 50, 50), (LEASES, 1, LEASES)
CASES = (SHARED, (LEASES, 25, 50), SHARED_WIDE, (100, 20, 20), (10, 5, 5), DISTINCT)
# Constants of an earlier study, not measured here.
PEERS = {
    "disperse_per_payee_at_500": (9_767, "Disperse, disperseToken to 500 payees"),
    "golem_gntb_per_payee_at_500": (7_983, "Golem GNTB.batchTransfer to 500 payees; it is the token itself"),
    "openzeppelin_erc20_transfer": (34_525, "OpenZeppelin 5.2 ERC20.transfer, solc 0.8.28"),
    "uniswap_merkle_claim": ([48_900, 55_600], "Uniswap MerkleDistributor.claim"),
    "iexec_poco_classic_per_deal": (1_232_835, "iExec PoCo classic, one deal"),
    "iexec_poco_classic_per_task_of_100": (705_501, "iExec PoCo classic, per task of a deal of 100"),
    "iexec_poco_boost_per_task_of_100": (132_680, "iExec PoCo Boost, per task of a deal of 100"),
    "prime_intellect_submit_work": (226_819, "PrimeIntellect submitWork, without the transaction's base"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Nothing to choose: the cases are those of the goals."""


def run(options: Mapping[str, Any], tell: Tell) -> Report:
    """Measure all cases."""
    tell("locking and settling on the test chain; some minutes")
    measured = process.run("tests.benchmarks.gas_run", {"cases": CASES})
    figures = figures_of(measured)
    return Report(figures, list(rows_of(figures)), faults_of(figures))


def figures_of(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures under their names, gas per lease unless the name says otherwise."""
    shared = [case for case in measured["cases"] if case["payees"] < LEASES]
    alone = [payee_side_of(case, measured["buyer_line"]) for case in measured["cases"] if case["leases"] == LEASES]
    lives = [life_of(case) for case in shared]
    distinct = alone[-1]
    return {
        "settle_per_lease": [row_of(case, case["buyers"], case["settle"]) for case in shared] + alone,
        "life_per_lease": found(lives, SHARED_WIDE)["gas"],
        "life_rows": lives,
        "floor_per_payee": gas_floor.settle_floor(LEASES, 0) / LEASES,
        "distinct_over_floor": distinct["gas"] / distinct["floor"] - 1,
        "distinct_over_floor_of_its_calls": distinct["gas"] / distinct["floor_of_its_calls"] - 1,
        "buyer_line_gas": measured["buyer_line"],
        **measured["single"],
        "peers": {name: {"gas": gas, "source": source} for name, (gas, source) in PEERS.items()},
    }


def row_of(case: Mapping[str, int], buyers: int, settled: int) -> dict[str, Any]:
    """Gas and floor of a settlement per lease; `floor` is that of a single call."""
    leases, payees, calls = case["leases"], case["payees"], case["calls"]
    return {
        "leases": leases, "payees": payees, "buyers": buyers, "gas": settled / leases,
        "floor": gas_floor.settle_floor(payees, buyers) / leases, "calls": calls,
        "floor_of_its_calls": gas_floor.settle_floor(payees, buyers, calls) / leases,
    }  # fmt: skip


def payee_side_of(case: Mapping[str, int], buyer_line: int) -> dict[str, Any]:
    """What is left of a settlement without the lines of its buyers, at a measured gas each."""
    alone = case["settle"] - case["lines"] * buyer_line
    return row_of(case, 0, alone) | {"measured_with_buyers": case["buyers"]}


def life_of(case: Mapping[str, int]) -> dict[str, Any]:
    """Gas and floor of lock and settlement together per lease."""
    leases, payees, buyers = case["leases"], case["payees"], case["buyers"]
    floor = gas_floor.lock_floor(leases, payees, buyers) + gas_floor.settle_floor(payees, buyers)
    return {
        "leases": leases, "payees": payees, "buyers": buyers, "lock": case["lock"] / leases,
        "settle": case["settle"] / leases, "gas": (case["lock"] + case["settle"]) / leases, "floor": floor / leases,
    }  # fmt: skip


def found(rows: Sequence[dict[str, Any]], case: tuple[int, int, int]) -> dict[str, Any]:
    """The row of (leases, buyers, payees)."""
    return next(row for row in rows if (row["leases"], row["buyers"], row["payees"]) == case)


def faults_of(figures: Mapping[str, Any]) -> list[str]:
    """Rows below their floor: the floor would be no floor."""
    rows = figures["settle_per_lease"] + figures["life_rows"]
    below = [row for row in rows if row["gas"] < row["floor"]]
    return [f"{row['gas']:,.0f} gas lie under the floor of {row['floor']:,.0f}" for row in below]


def verdict(value: float, goal: float, shown: str) -> str:
    """The goal beside the figure, and whether it was reached."""
    return f"goal <= {shown}: {'reached' if value <= goal else 'MISSED'}"


def rows_of(figures: Mapping[str, Any]) -> Iterator[str]:
    """Draw the table: gas per lease, its floor, and how far above it."""

    def drawn(name: str, row: Mapping[str, Any], remark: str = "") -> list[str]:
        return [name, f"{row['gas']:,.0f}", f"{row['floor']:,.0f}", f"{row['gas'] / row['floor'] - 1:+.1%}", remark]

    def remark(row: Mapping[str, Any]) -> str:
        if not row["buyers"] and row["payees"] == LEASES:
            over = figures["distinct_over_floor_of_its_calls"]
            said = verdict(figures["distinct_over_floor"], GOALS["distinct_over_floor"], "+5 %")
            return f"{said}; {over:+.1%} over the floor of the {row['calls']} calls it takes"
        if not row["buyers"]:
            return f"with {row['measured_with_buyers']} buyers; {verdict(row['gas'], GOALS['payee_side'], '900')}"
        if (row["leases"], row["buyers"], row["payees"]) == SHARED:
            return verdict(row["gas"], GOALS["settle"], "900")
        return ""

    rows = [["settle: leases / payees / buyers", "gas", "floor", "over", ""]]
    for row in figures["settle_per_lease"]:
        buyers = row["buyers"] or "payee side alone"
        rows.append(drawn(f"  {row['leases']} / {row['payees']} / {buyers}", row, remark(row)))
    rows.append(["life: lock and settle", "", "", "", ""])
    for row in figures["life_rows"]:
        is_judged = (row["leases"], row["buyers"], row["payees"]) == SHARED_WIDE
        said = f"lock {row['lock']:,.0f}, settle {row['settle']:,.0f}"
        said += f"; {verdict(row['gas'], GOALS['life'], '5,000')}" if is_judged else ""
        rows.append(drawn(f"  {row['leases']} / {row['payees']} / {row['buyers']}", row, said))
    yield from table(rows)
    yield ""
    yield from table(
        [
            ["a transfer of the token", f"{figures['erc20_transfer']:,.0f}",
             verdict(figures["erc20_transfer"], GOALS["erc20_transfer"], "33,812")],
            ["a payout, pulled alone", f"{figures['payout_per_payee']:,.0f}", "withdraw_for, a transaction each"],
            ["a claim, tree of 8", f"{figures['claim']:,.0f}", "the fallback"],
            ["one buyer more in a settle", f"{figures['buyer_line_gas']:,.0f}", f"floor {gas_floor.LINE:,}"],
            *([source, "-".join(f"{gas:,}" for gas in (peer if isinstance(peer, list) else [peer])), "constant"]
              for peer, source in PEERS.values()),
        ]
    )  # fmt: skip
    yield ""
    yield "Floors, from the EVM's price list, each divided by the leases:"
    yield f"settle = {gas_floor.TRANSACTION} a call + (payees + buyers) x line; {gas_floor.LINE_SHOWN}"
    yield f"{gas_floor.LOCK_SHOWN}; life = lock + settle"
