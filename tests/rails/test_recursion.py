"""What an outside library does to the whole process is undone, and costs only the processes that use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ledger.rails

RAILS = Path(ledger.rails.__file__).parent
WITH_AN_EVM = sorted(
    path.stem
    for path in RAILS.glob("*.py")
    if any(line.startswith(("import eth ", "from eth.")) for line in path.read_text().splitlines())
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("module", WITH_AN_EVM)
def test_a_text_that_nests_without_end_is_an_error_and_no_crash(module: str) -> None:
    ended = run(
        "import django; django.setup(); import sys, json\n"
        f"import ledger.rails.{module}; assert 'eth' in sys.modules; json.loads('[' * 100_000)"
    )

    assert ended.returncode == 1, ended
    assert "RecursionError" in ended.stderr
    assert json.loads("[[[]]]") == [[[]]]


def test_a_process_that_never_runs_a_contract_loads_no_evm() -> None:
    ended = run(
        "import django; django.setup(); import sys, marketplace.urls, ledger.rails.evm\n"
        "sys.exit(int('eth' in sys.modules))"
    )

    assert ended.returncode == 0, ended
