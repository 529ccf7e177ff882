"""The harness's command line, `lm_eval`, with the model `subgpt`."""

import sys

from lm_eval.__main__ import cli_evaluate

import subgpt.evaluation.lm_eval  # noqa: F401  gives it its name
from subgpt.errors import SubgptError


def main() -> None:
    """Run it; what is wrong with a model is one line, as on our own command line."""
    try:
        cli_evaluate()
    except SubgptError as error:
        sys.exit(f"subgpt: error: {error}")


if __name__ == "__main__":
    main()
