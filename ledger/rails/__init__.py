"""The rails: the only code that talks to outside money."""

import sys

import eth  # noqa: F401

# On import py-evm raises Python's recursion limit for 1,024 nested EVM calls. With that limit a deeply nested JSON text
# overruns the C stack and kills the process that parses it, the site's too. Our contracts nest four calls.
RECURSION_LIMIT = 1_000
sys.setrecursionlimit(RECURSION_LIMIT)
