"""``python -m tests.benchmarks``: see README.md beside this file."""

import sys

from tests.benchmarks.cli import main

if __name__ == "__main__":
    sys.exit(main())
