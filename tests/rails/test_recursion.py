"""What an outside library does to the whole process is undone."""

import json
import subprocess
import sys


def test_a_text_that_nests_without_end_is_an_error_and_no_crash():
    program = "import ledger.rails, eth.chains.base, json; json.loads('[' * 100_000)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ended.returncode == 1, ended
    assert "RecursionError" in ended.stderr
    assert json.loads("[[[]]]") == [[[]]]
