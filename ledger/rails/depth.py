"""Loads py-evm and undoes what that does to the whole process. Whatever module here imports `eth` imports this too.

No other module loads it: an EVM is half of what a process needs to start, and most of them never run one.
"""

import sys

import eth  # noqa: F401

# On import py-evm raises Python's recursion limit for 1,024 nested EVM calls. With that limit a deeply nested JSON text
# overruns the C stack and kills the process that parses it, the site's too. Our contracts nest four calls.
RECURSION_LIMIT = 1_000
sys.setrecursionlimit(RECURSION_LIMIT)
