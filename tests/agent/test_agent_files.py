"""What lies beside the agent: units and scripts that their own tools accept, a lock that is part of the product's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.agent.__main__ import parser
from marketplace.agent.strategy import read_strategy
from marketplace.environment import CHECKOUT

FOLDER = CHECKOUT / "marketplace" / "agent"
EXAMPLES = FOLDER / "examples"
UNITS = ("grove-meter.service", "grove-stand@.service", "grove-probe.service")


def verified(unit: Path) -> str:
    """What systemd says of a unit file; nothing when it is content."""
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    return told.stdout + told.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_and_would_notice_a_mistake(name, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here: the unit was not checked.")
    text = (EXAMPLES / name).read_text()
    here = text.replace("/opt/grove/.venv/bin/python", sys.executable).replace("/opt/grove", str(CHECKOUT))
    unit = tmp_path / name.replace("@", "@1")
    unit.write_text(here.replace("User=grove", "User=root"))
    assert verified(unit) == ""

    unit.write_text(here.replace("RestartSec=5", "RestartSec=soon"))
    assert "RestartSec" in verified(unit) or "soon" in verified(unit)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_the_agent_has(name):
    (line,) = re.findall(r"ExecStart=\S+ -m marketplace\.agent (.+)", (EXAMPLES / name).read_text())

    assert parser().parse_args(line.split()).command in ("meter", "stand", "probe")
    assert "GROVE_API_KEY=gx" not in re.sub(r"(?m)^#.*", "", (EXAMPLES / name).read_text())  # no secret in a unit


def test_the_batch_script_is_a_script_and_runs_the_benchmark_without_a_scheduler(tmp_path):
    script = EXAMPLES / "benchmark.sbatch"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert "#SBATCH --exclusive" in script.read_text()

    root = tmp_path / "root"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").write_text(f'#!/bin/bash\ncd {CHECKOUT}\nexec {sys.executable} "$@"\n')
    (root / ".venv" / "bin" / "python").chmod(0o755)
    told = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "GROVE_ROOT": str(root), "GROVE_PRESET": "demo", "HOME": str(tmp_path),
             "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert '"accepted": 3' in told.stdout
    assert (tmp_path / "grove-transcript-7.json").exists()
    assert told.stderr == ""  # no bar where nobody watches


def test_the_example_strategy_is_one():
    strategy = read_strategy((EXAMPLES / "strategy.toml").read_text())

    assert (strategy.floor_micros, strategy.beyond_micros, len(strategy.calendar)) == (1_250_000, 1_900_000, 2)


def test_the_agents_lock_is_part_of_the_products_and_holds_all_it_asks_for():
    def entries(path: Path) -> dict[str, str]:
        text = "".join(line for line in path.read_text().splitlines(True) if not line.lstrip().startswith("#"))
        parts = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
        return {part.split(" \\")[0]: part.strip() for part in parts if part.strip()}

    own, whole = entries(FOLDER / "requirements.lock"), entries(CHECKOUT / "requirements.lock")
    asked = re.findall(r"(?m)^([a-z-]+)", (FOLDER / "requirements.in").read_text())

    assert {pin: text for pin, text in own.items() if whole.get(pin) != text} == {}
    assert set(asked) <= {re.split(r"\[|==", pin)[0] for pin in own}
    assert not any(pin.startswith(("django", "celery", "psycopg")) for pin in own)


def test_the_readme_names_every_command_and_file():
    readme = (FOLDER / "README.md").read_text()
    actions = next(action for action in parser()._actions if action.dest == "command")

    for command in actions.choices:
        assert f"| `{command}" in readme
    for name in ("machine.key", "agent.json", "taken.json", "meter.json", "--passphrase-fd", "never move money"):
        assert name in readme
