"""`python -m subgpt`: the command line, where its script is not on the path."""

import sys

from subgpt.cli import main

if __name__ == "__main__":  # and not where a process that a command starts looks for what it was started with
    sys.exit(main())
