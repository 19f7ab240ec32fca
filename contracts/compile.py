"""Compile the Vyper sources into `contracts/build/*.json`: `python -m contracts.compile [--check]`.

The output is deterministic: same sources and compiler, same bytes. Needs the development requirements (vyper).
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from contracts.artifacts import BUILD, NAMES

SOURCES: Final = Path(__file__).parent
CODE_SIZE_MAX: Final = 24_576  # bytes of runtime code, EIP-170


def compiled(name: str) -> str:
    """Return the text of `build/<name>.json` as compiled from the sources now.

    Raises ValueError if the runtime code is larger than a chain accepts; compiler errors pass through.
    """
    # Imported here and untyped: the compiler is a development requirement.
    vyper: Any = import_module("vyper")
    compiler: Any = import_module("vyper.compiler")
    bundle: Any = import_module("vyper.compiler.input_bundle").FilesystemInputBundle([SOURCES])
    output: dict[str, Any] = compiler.compile_from_file_input(
        bundle.load_file(f"{name}.vy"),
        input_bundle=bundle,
        output_formats=["abi", "bytecode", "bytecode_runtime", "integrity", "layout"],
    )
    size = len(output["bytecode_runtime"]) // 2 - 1 + _immutables_size(output["layout"].get("code_layout", {}))
    if size > CODE_SIZE_MAX:
        raise ValueError(f"{name}: {size} bytes of runtime code, at most {CODE_SIZE_MAX} are accepted")
    body = {
        "contract": name,
        "compiler": f"vyper {vyper.__version__.split('+')[0]}",
        "evm_version": "cancun",
        "integrity": output["integrity"],
        "runtime_bytes": size,
        "abi": output["abi"],
        "bytecode": output["bytecode"],
    }
    return json.dumps(body, indent=1) + "\n"


def _immutables_size(layout: dict[str, Any]) -> int:
    # Immutables are appended to the runtime code when a contract is deployed; modules nest.
    if "length" in layout:
        return int(layout["length"])
    return sum(_immutables_size(entry) for entry in layout.values())


def main(arguments: list[str]) -> int:
    """Write every artefact, or with `--check` only say which are stale; return the exit status."""
    stale = 0
    for name in NAMES:
        text, path = compiled(name), BUILD / f"{name}.json"
        if path.exists() and path.read_text(encoding="ascii") == text:
            continue
        stale += 1
        print(f"contracts/build/{name}.json is stale" if "--check" in arguments else f"writing {path.name}")
        if "--check" not in arguments:
            path.write_text(text, encoding="ascii")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
