"""What an outside library does to the whole process is undone, and costs only the processes that use it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ledger.rails
from marketplace.environment import CHECKOUT

RAILS = Path(ledger.rails.__file__).parent
WITH_AN_EVM = sorted(
    path.name
    for path in RAILS.glob("*.py")
    if any(line.startswith(("import eth ", "from eth.")) for line in path.read_text().splitlines())
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          cwd=CHECKOUT, env=environment)  # fmt: skip


def test_a_text_that_nests_without_end_is_an_error_and_no_crash() -> None:
    ended = run("import eth.chains.base, ledger.rails.depth, json; json.loads('[[[]]]'); json.loads('[' * 100_000)")

    assert ended.returncode == 1, ended
    assert "RecursionError" in ended.stderr


@pytest.mark.parametrize("module", WITH_AN_EVM)
def test_whatever_module_loads_an_evm_undoes_it(module: str) -> None:
    assert {"embedded.py", "store.py", "depth.py"} <= set(WITH_AN_EVM)
    assert module == "depth.py" or "\nimport ledger.rails.depth  # noqa: F401\n" in (RAILS / module).read_text()


def test_a_process_that_opens_no_chain_loads_neither_web3_nor_an_evm() -> None:
    ended = run(
        "import django; django.setup(); import sys, marketplace.urls, ledger.rails.evm\n"
        "sys.exit(', '.join({'eth', 'eth_account', 'web3'} & set(sys.modules)) or 0)"
    )

    assert ended.returncode == 0, ended
