"""`python -m subgpt.cli`: the same as `subgpt`."""

import sys

from subgpt.cli import main

if __name__ == "__main__":  # and not where a process that a command starts looks for what it was started with
    sys.exit(main())
