"""Compiles mutants and runs the contract tests against them, each in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import django
import pytest

from contracts import artifacts
from contracts import compile as compiler
from tests.contracts.mutants.catalogue import EXPLAINED, SUITES, Mutant

TESTS: Final = Path(__file__).parents[1]
CHECKOUT: Final = TESTS.parents[1]
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"
SHARE_MIN: Final = 0.95
_PASSED, _FAILED, _NOTHING = 0, 1, 5  # exit statuses of pytest


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant; `by` is the test that failed first, or what broke."""

    name: str
    fate: str
    by: str


class Witness:
    """A plugin that remembers the first test that failed."""

    def __init__(self) -> None:
        self.first = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid.rpartition("/")[2]


def mutated(mutant: Mutant) -> str:
    """The source with the mistake in it. Raises ValueError unless the replacement fits exactly once."""
    text = (compiler.SOURCES / mutant.source).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: fits {text.count(mutant.old)} times in {mutant.source}, not once")
    return text.replace(mutant.old, mutant.new)


def hunt(mutants: Sequence[Mutant], tell: Callable[[str], object], processes: int = 2) -> list[Verdict]:
    """Judge each mutant, telling as they come."""
    # Loaded before the processes fork, so that each need not: the compiler alone takes seconds.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    django.setup()  # one of the tests compares with the ledger's tree
    for name in ("vyper.compiler", "tests.contracts.world", "contracts.claims", "ledger.epochs"):
        importlib.import_module(name)
    verdicts = []
    # One mutant a process: pytest and the compiler remember what they have seen.
    with ProcessPoolExecutor(processes, mp_context=get_context("fork"), max_tasks_per_child=None) as pool:
        for verdict in pool.map(judge_apart, mutants):
            tell(f"{verdict.fate:<8}  {verdict.name}  ({verdict.by})")
            verdicts.append(verdict)
    return verdicts


def judge_apart(mutant: Mutant) -> Verdict:
    """Judge a mutant in a child of this process, whose memory ends with it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        verdict = judge(mutant)
        os.write(write, f"{verdict.fate}\n{verdict.by}".encode()[:4_000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as told:
        fate, _, by = told.read().partition("\n")
    os.waitpid(child, 0)
    return Verdict(mutant.name, fate or BROKEN, by or "the process died")


def judge(mutant: Mutant) -> Verdict:
    """Compile the mutant and run the tests that should notice it, then all of its contract."""
    with tempfile.TemporaryDirectory(prefix="grove-mutant-") as folder:
        try:
            build(mutant, Path(folder))
        except Exception as error:
            return Verdict(mutant.name, BROKEN, f"{type(error).__name__}: {error}".splitlines()[0])
        files = [TESTS / f"{name}.py" for name in SUITES[mutant.contract]]
        likely = [file for file in files if mutant.first.split()[0] in file.read_text(encoding="utf-8")]
        for arguments in (["-k", mutant.first, *likely], files):
            status, first = run_tests(map(str, arguments), Path(folder))
            if status == _FAILED:
                return Verdict(mutant.name, KILLED, first)
            if status not in (_PASSED, _NOTHING):
                return Verdict(mutant.name, BROKEN, f"pytest ended with status {status}")
    return Verdict(mutant.name, SURVIVED, EXPLAINED.get(mutant.name, "not explained"))


def build(mutant: Mutant, folder: Path) -> None:
    """Put the mutant's build in the place of the committed one, for this process."""
    sources, built = folder / "contracts", folder / "build"
    shutil.copytree(compiler.SOURCES, sources, ignore=shutil.ignore_patterns("*.py", "build", "__pycache__"))
    (sources / mutant.source).write_text(mutated(mutant), encoding="utf-8")
    shutil.copytree(artifacts.BUILD, built)
    compiler.SOURCES, compiler.CODE_SIZE_MAX = sources, 2 * compiler.CODE_SIZE_MAX
    (built / f"{mutant.contract}.json").write_text(compiler.compiled(mutant.contract), encoding="ascii")
    artifacts.BUILD = built
    artifacts.load.cache_clear()


def run_tests(arguments: Iterable[str], folder: Path) -> tuple[int, str]:
    """Run pytest up to the first failure, without the suite's database; its status and the test that failed."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow:\n    nightly:\n", encoding="ascii")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    witness = Witness()
    settings = ["-c", str(folder / "pytest.ini"), "--rootdir", str(CHECKOUT), "--import-mode=importlib", "-x", "-q"]
    chosen = ["-m", "not slow and not nightly", *arguments]
    plugins = ["--noconftest", "-p", "tests.contracts.conftest", "-p", "no:cacheprovider"]
    log = (folder / "log").open("w", encoding="utf-8")
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        status = pytest.main([*settings, *plugins, *chosen], plugins=[witness])
    for name in [each for each in sys.modules if each.startswith("tests.contracts.test_")]:
        del sys.modules[name]
    return int(status), witness.first


def table(verdicts: Sequence[Verdict]) -> tuple[list[str], bool]:
    """The printed result, and whether it is good enough: 95 % killed, every survivor explained, none broken."""
    fates = {fate: [each for each in verdicts if each.fate == fate] for fate in (KILLED, SURVIVED, BROKEN)}
    share = len(fates[KILLED]) / max(1, len(verdicts))
    rows = [f"{len(verdicts)} mutants: {len(fates[KILLED])} killed, {len(fates[SURVIVED])} survived, "
            f"{len(fates[BROKEN])} broken; {share:.1%} killed"]  # fmt: skip
    rows += [f"  {each.fate}: {each.name}: {each.by}" for each in fates[SURVIVED] + fates[BROKEN]]
    is_explained = all(each.name in EXPLAINED for each in fates[SURVIVED])
    return rows, share >= SHARE_MIN and is_explained and not fates[BROKEN]
