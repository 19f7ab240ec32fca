"""`python -m tests.contracts.mutants [NAME...]`: compile each mutant, run its contract's tests, print who survived.

Exit 0 when at least 95 % are killed and every survivor is explained in the catalogue.
"""

from __future__ import annotations

import sys

from tests.contracts.mutants.catalogue import MUTANTS
from tests.contracts.mutants.hunt import hunt, table


def main(names: list[str]) -> int:
    """Hunt the named mutants, or all."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"No such mutant: {', '.join(unknown)}")
        return 2
    verdicts = hunt([known[name] for name in names or known], tell=print)
    rows, is_fine = table(verdicts)
    print("\n".join(rows))
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
