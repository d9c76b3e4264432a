"""Judges a run of the acceptance programs: every case that needs tile-level constructs alone must pass; thread-level ones must be refused as such."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

# The diagnostic for constructs of thread-level code, which this version refuses.
THREAD_LEVEL = re.compile(r"thread-level|divergent_barrier")


def main() -> int:
    results = json.loads(Path(sys.argv[1]).read_text())
    refused = [r for r in results if "why" in r and (THREAD_LEVEL.search(r["why"]) or THREAD_LEVEL.search(r["name"]))]
    failed = [r for r in results if "why" in r and r not in refused]
    for result in failed:
        print(f"FAIL {result['name']}: {result['why']}")
    print(f"{len(results) - len(failed) - len(refused)} passed, {len(failed)} failed, {len(refused)} refused as thread-level code")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
