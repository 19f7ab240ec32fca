"""Mutants of the contracts: `python -m tests.contracts.mutants`."""
