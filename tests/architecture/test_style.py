"""What can be wrong in the text of the code: lint, types, clocks and chance outside their seams, words that leak."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from marketplace.environment import CHECKOUT

PACKAGES = ("marketplace", "ledger", "pricing", "contracts")
# The only places that may read a clock or draw by chance; everything else is handed `now` and ids.
SEAMS_OF_TIME = {"marketplace/clock.py", "marketplace/supervisor.py"}
SEAMS_OF_IDS = {"ledger/ids.py"}
SEAM_OF_THE_AGENT = "marketplace/agent/"
CLOCKS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now", "datetime.date.today",
    "time.time", "time.time_ns", "timezone.now", "django.utils.timezone.now", "localtime", "time.localtime",
}  # fmt: skip
CHANCE = re.compile(r"^(uuid\.)?uuid[14]$|^random\.\w+$|^(np|numpy)\.random\.\w+$")
SEEDED = re.compile(r"(^|\.)(Random|default_rng|Generator|PCG64|Philox|SeedSequence)$")  # with a seed it is no chance
SKIPPED_FOLDERS = {
    ".git", ".venv", "__pycache__", "node_modules", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "out",
}  # fmt: skip


@cache
def our_files() -> tuple[Path, ...]:
    """Return every file that is or will be committed."""
    ask = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listing = subprocess.run(ask, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        paths = [CHECKOUT / name for name in listing.stdout.split("\0") if name]
    else:  # an unpacked archive
        paths = [p for p in CHECKOUT.rglob("*") if not SKIPPED_FOLDERS & set(p.relative_to(CHECKOUT).parts)]
    return tuple(path for path in paths if path.is_file())


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Return the name and syntax tree of each module of the product; migrations are history and stay as they are."""
    for path in our_files():
        name = path.relative_to(CHECKOUT).as_posix()
        if path.suffix == ".py" and name.split("/")[0] in PACKAGES and "/migrations/" not in name:
            yield name, ast.parse(path.read_text(), name)


@cache
def calls() -> tuple[tuple[str, str, ast.Call], ...]:
    """Return each call of the product: its module, its dotted name as written, and itself."""
    return tuple(
        (name, ast.unparse(node.func), node)
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    )


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool over the checkout."""
    return subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT, capture_output=True, text=True, check=False)


def test_ruff_finds_nothing() -> None:
    told = run("ruff", "check", "--no-cache", ".")

    assert told.returncode == 0, told.stdout


def test_mypy_is_strict_and_content_where_money_is_counted() -> None:
    """It uses what an earlier run by hand has kept, and keeps nothing itself: that is a seventh of a whole run."""
    is_kept = (CHECKOUT / ".mypy_cache").is_dir()
    told = run("mypy", *(() if is_kept else ("--cache-dir", os.devnull)))

    assert told.returncode == 0, told.stdout + told.stderr


def test_business_code_writes_a_job_and_never_calls_the_broker() -> None:
    seams = {"ledger/tasks.py"}  # publishes the id of a row after its commit
    found = [
        f"{name}:{call.lineno} {written}"
        for name, written, call in calls()
        if name not in seams and written.rsplit(".", 1)[-1] in {"delay", "apply_async", "send_task"}
    ]

    assert found == []


def test_only_the_clock_reads_the_time() -> None:
    found = [
        f"{name}:{call.lineno} {written}"
        for name, written, call in calls()
        if written in CLOCKS and name not in SEAMS_OF_TIME and not name.startswith(SEAM_OF_THE_AGENT)
    ]

    assert found == []


def test_only_the_ids_are_drawn_by_chance() -> None:
    found = [
        f"{name}:{call.lineno} {written}"
        for name, written, call in calls()
        if name not in SEAMS_OF_IDS and not name.startswith(SEAM_OF_THE_AGENT) and is_chance(written, call)
    ]

    assert found == []


def is_chance(written: str, call: ast.Call) -> bool:
    """Say whether a call draws something nobody can repeat."""
    if SEEDED.search(written):
        return not call.args and not call.keywords
    return bool(CHANCE.match(written))


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("random.random()", True),
        ("random.Random()", True),
        ("np.random.default_rng()", True),
        ("uuid.uuid4()", True),
        ("random.Random(7)", False),
        ("np.random.default_rng(seed)", False),
        ("uuid.UUID(text)", False),
    ],
)
def test_a_seeded_draw_is_no_chance(line: str, verdict: bool) -> None:
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)

    assert is_chance(ast.unparse(call.func), call) is verdict


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}

    assert [str(path) for path in our_files() if drawers & {path.stem, *path.relative_to(CHECKOUT).parts[:-1]}] == []


def test_python_files_name_no_place_of_the_machine_they_were_written_on() -> None:
    places = [str(CHECKOUT), str(CHECKOUT.parent / "shared"), str(Path.home())]
    places = [place for place in places if len(Path(place).parts) > 2]  # "/app" may be a word of the product
    temporary = re.compile(r"/tmp/(?!grove-)[\w-]")

    assert found_in_text(lambda text: [p for p in places if p in text] or temporary.findall(text)) == []


def test_no_file_names_a_download_host() -> None:
    # put together here, so that this file does not name one either
    hosts = ["py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js", "deb.deb" + "ian.org", "crates" + ".io"]
    hosts += [host for host in (os.environ.get("PIP_INDEX_URL", ""), os.environ.get("UV_INDEX_URL", "")) if host]

    assert found_in_text(lambda text: [host for host in hosts if host in text]) == []


def test_no_lock_that_names_hosts_is_kept() -> None:
    assert [path.name for path in our_files() if path.name in {"uv.lock", "pylock.toml", "poetry.lock"}] == []


def test_nobody_signs_for_a_tool() -> None:
    signs = ["co-" + "authored-by:", "generated " + "with ", "as an ai " + "language model"]

    assert found_in_text(lambda text: [sign for sign in signs if sign in text.lower()]) == []


def found_in_text(look: object) -> list[str]:
    """Return each text file of ours in which `look` finds something, with what it found."""
    assert callable(look)
    found = []
    for path in our_files():
        try:
            words = look(path.read_text())
        except UnicodeDecodeError:
            continue
        if words:
            found.append(f"{path.relative_to(CHECKOUT)}: {sorted(set(words))}")
    return found
