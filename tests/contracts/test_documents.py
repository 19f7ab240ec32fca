"""The words beside the contracts: each invariant has its test, each function its documentation and line of trust."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from contracts.artifacts import NAMES, load
from contracts.compile import SOURCES

TESTS = Path(__file__).parents[1]
README = (SOURCES / "README.md").read_text(encoding="utf-8")
EXPORTED = {"stake": ("governed",), "escrow": ("governed",), "anchor": ("governed",), "token": ()}
NUMBER = re.compile(r"\b[ESAT]\d{1,2}\b")


def source(name: str) -> str:
    return (SOURCES / f"{name}.vy").read_text(encoding="utf-8")


def named_in_the_sources() -> set[str]:
    """Numbers at the beginnings of the lines below `@custom:invariants`."""
    found = set()
    for name in NAMES:
        head = source(name).split('"""')[1]
        found |= set(re.findall(r"^ {4}([ESAT]\d+) ", head.partition("@custom:invariants")[2], re.MULTILINE))
    return found


def carried_by_tests() -> dict[str, list[str]]:
    """Invariant -> tests that carry its number in their name (test_S2_..., test_E6_E8_...) or their docstring."""
    carried: dict[str, list[str]] = {}
    for path in sorted((TESTS / "contracts").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = " ".join([*node.name.split("_"), ast.get_docstring(node) or ""])
                for number in NUMBER.findall(said):
                    carried.setdefault(number, []).append(f"{path.name}::{node.name}")
    return carried


def test_every_invariant_of_the_sources_is_carried_by_a_test() -> None:
    numbers = named_in_the_sources()

    assert {"E1", "E10", "S1", "S8", "A1", "T3"} <= numbers
    assert sorted(numbers - carried_by_tests().keys()) == []


def test_no_test_carries_a_number_that_no_source_names() -> None:
    assert sorted(carried_by_tests().keys() - named_in_the_sources()) == []


def test_the_readme_lists_the_invariants_of_the_sources() -> None:
    listed = set(re.findall(r"^\| ([ESA]\d+) \|", README, re.MULTILINE))

    assert listed | {"T1", "T2", "T3"} == named_in_the_sources()
    assert "| T1-T3 |" in README


@cache
def documents(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """userdoc and devdoc of a source's own functions, by signature."""
    bundle = FilesystemInputBundle([SOURCES])
    output = compile_from_file_input(
        bundle.load_file(f"{file}.vy"), input_bundle=bundle, output_formats=["userdoc", "devdoc"]
    )
    return output["userdoc"].get("methods", {}), output["devdoc"].get("methods", {})


def type_of(entry: dict[str, Any]) -> str:
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    return f"({','.join(map(type_of, entry['components']))}){entry['type'].removeprefix('tuple')}"


def functions(contract: str) -> list[dict[str, Any]]:
    """The ABI's functions but for the getters that the compiler makes of public variables."""
    files = [contract, *(f"modules/{name}" for name in EXPORTED[contract])]
    getters = {name for file in files for name in re.findall(r"^(\w+): public\(", source(file), re.MULTILINE)}
    return [each for each in load(contract).abi if each["type"] == "function" and each["name"] not in getters]


@pytest.mark.parametrize("contract", NAMES)
def test_every_external_function_says_what_it_does_and_what_each_argument_is(contract: str) -> None:
    notices: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for file in (contract, *(f"modules/{name}" for name in EXPORTED[contract])):
        user, developer = documents(file)
        notices, details = notices | user, details | developer

    silent, unexplained = [], []
    for entry in functions(contract):
        signature = f"{entry['name']}({','.join(map(type_of, entry['inputs']))})"
        if not notices.get(signature, {}).get("notice"):
            silent.append(signature)
        explained = details.get(signature, {}).get("params", {}).keys()
        unexplained += [f"{signature}: {each['name']}" for each in entry["inputs"] if each["name"] not in explained]

    assert len(functions(contract)) >= 6
    assert (silent, unexplained) == ([], [])


@pytest.mark.parametrize("contract", NAMES)
def test_the_trust_table_has_every_function_that_changes_something(contract: str) -> None:
    table = README.partition("## Who may call what")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and f"{contract} `" in line]
    lines += [line for line in table.splitlines() if line.startswith("| all")]
    trusted = {name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    changing = {each["name"] for each in functions(contract) if each["stateMutability"] == "nonpayable"}

    assert sorted(changing - trusted) == []
