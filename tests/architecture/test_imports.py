"""The import rules of `pyproject.toml` hold, and each of them would notice a break."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.environment import CHECKOUT

PACKAGES = ("marketplace", "ledger", "pricing", "contracts")
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
RULE = {  # the first words of each contract's name
    "path": "The data path runs one way",
    "pricing": "Pricing is pure",
    "contracts": "Contracts know nobody",
    "ledger": "The ledger knows nothing",
    "stages": "Stages never speak HTTP",
    "agent": "The provider's agent runs without the site",
    "rails": "Only the rails speak to the outside money world",
}
# what somebody might add one day: the file, the line, the one rule it breaks
BREAKS = [
    ("marketplace/demand/planted.py", "from marketplace.clearing import models", "path"),
    ("marketplace/governance/planted.py", "from marketplace.parties import models", "path"),
    ("pricing/planted.py", "import django", "pricing"),
    ("contracts/planted.py", "from pricing import book", "contracts"),
    ("ledger/planted.py", "from marketplace import clock", "ledger"),
    ("marketplace/supply/planted.py", "import rest_framework", "stages"),
    ("marketplace/agent/planted.py", "import django", "agent"),
    ("marketplace/insights/planted.py", "import web3", "rails"),
]


def lint(folder: Path) -> tuple[set[str], str]:
    """Return the names of the broken rules of a tree, and all that was printed."""
    told = subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert "Contracts: " in told.stdout, told.stdout + told.stderr
    return set(re.findall(r"^(.+) BROKEN$", told.stdout, re.MULTILINE)), told.stdout


def test_every_rule_is_kept() -> None:
    broken, told = lint(CHECKOUT)

    assert broken == set(), told
    assert f"{len(RULE)} kept, 0 broken" in told


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of our packages in which a file may be planted."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        only_python = shutil.ignore_patterns("__pycache__", "build", "static")
        shutil.copytree(CHECKOUT / package, folder / package, ignore=only_python)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(("file", "line", "rule"), BREAKS, ids=[f"{rule}: {line}" for _, line, rule in BREAKS])
def test_a_planted_import_breaks_exactly_its_rule(copy: Path, file: str, line: str, rule: str) -> None:
    (copy / file).write_text(f"{line}\n")
    try:
        broken, told = lint(copy)
    finally:
        (copy / file).unlink()

    assert len(broken) == 1, told
    assert broken.pop().startswith(RULE[rule])


def test_every_rule_has_a_planted_break() -> None:
    assert {rule for _, _, rule in BREAKS} == set(RULE)
