"""Models for EleutherAI's lm-evaluation-harness, under the name `subgpt`; needs the extra `eval`.

`python -m subgpt.evaluation.lm_eval` is its command line with that name known; in Python importing this is enough.
"""

from subgpt.evaluation.lm_eval.model import SubgptLM

__all__ = ["SubgptLM"]
