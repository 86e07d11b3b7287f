"""``python -m bgbench``: measure, publish, compare."""

from __future__ import annotations

import sys

from bgbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
