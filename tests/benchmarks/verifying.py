"""The process that checks a public bundle as an outsider would, and says how long it took in how much memory."""

from __future__ import annotations

import time

from pricing import verify
from tests.benchmarks import process


def main() -> None:
    """Run the published verifier on a folder."""
    asked = process.request()
    began = time.perf_counter()
    status = verify.main([asked["folder"]])
    process.answer({
        "is_ok": status == 0, "seconds": time.perf_counter() - began, "peak_rss_mb": process.peak_rss_mb(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
