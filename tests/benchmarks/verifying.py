"""The process that checks a public bundle as an outsider would, and says how long it took in how much memory."""

from __future__ import annotations

import contextlib
import io
import resource
import time

from pricing import verify
from tests.benchmarks import process


def main() -> None:
    """Run the published verifier on a folder."""
    asked = process.request()
    told = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(told):
        status = verify.main([asked["folder"]])
    copy_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # what both share counts twice
    process.answer({
        "is_ok": status == 0, "seconds": time.perf_counter() - began, "peak_rss_mb": process.peak_rss_mb() + copy_mb,
        "complaint": "; ".join(line for line in told.getvalue().splitlines() if line.startswith("BAD")),
    })  # fmt: skip


if __name__ == "__main__":
    main()
