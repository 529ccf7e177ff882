"""`python -m subgpt.cli`: the same as `subgpt`."""

import sys

from subgpt.cli import main

sys.exit(main())
