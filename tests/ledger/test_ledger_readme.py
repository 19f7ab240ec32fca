"""What `ledger/README.md` says is so."""

from __future__ import annotations

import re
from pathlib import Path

from ledger import services
from ledger.chart import CHART

ROOT = Path(__file__).parents[2]
README = (ROOT / "ledger" / "README.md").read_text()


def test_the_chart_in_the_readme_is_the_chart():
    lines = [line for line in README.splitlines() if line.startswith("| `")]
    rows = [tuple(cell.strip(" `") for cell in line.split("|")[1:-1]) for line in lines]

    chart = [(entry.code, entry.per, entry.side, entry.floor, entry.meaning) for entry in CHART.values()]
    assert [row for row in rows if row[0] in CHART] == chart


def test_every_recipe_is_listed():
    section = README.split("## Recipes")[1].split("## Invariants")[0]
    listed = set(re.findall(r"`((?:book|settle|post_hold|void|expire|reserve)_\w+)`", section))

    assert listed == {name for name in services.__all__ if re.match("book|settle|post_hold|void|expire|reserve", name)}


def test_every_test_named_in_the_readme_exists():
    source = "".join(path.read_text() for path in (ROOT / "tests" / "ledger").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", README)

    assert len(named) >= 12
    assert [name for name in named if f"def {name}(" not in source] == []
