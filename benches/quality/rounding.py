"""What weights in fewer bits cost: perplexity on text that a model was not trained on, beside that of float32.

python benches/quality/rounding.py                                  # stories260K on texts of its kind
python benches/quality/rounding.py runs/base --data held-out.txt
"""

import argparse
import json
from pathlib import Path

import numpy as np

import subgpt
from subgpt.model.quantized import QUANTIZATIONS

DATA = Path(__file__).parents[3] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default=DATA / "model" / "stories260K.bin", type=Path)
    parser.add_argument("--data", default=DATA / "corpora" / "tinystories_sample.txt", type=Path)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    given = parser.parse_args()
    if not given.run.exists() or not given.data.exists():
        raise SystemExit(f"{given.run} or {given.data}: no such file; name a model and a text")
    exact, rows = None, []
    for kind in (None, *QUANTIZATIONS):
        for head in (True,) if kind is None else (True, False):
            model, tokenizer = subgpt.load(given.run)
            if kind is not None:
                model.quantize(kind, head=head)
            loss = subgpt.evaluate(model, tokenizer, given.data).loss
            exact = loss if exact is None else exact
            what = (kind or "float32") + ("" if head else ", head as it was")
            print(
                f"{what:28} loss {loss:.4f}   perplexity {np.exp(loss):.3f}, {100 * np.expm1(loss - exact):+.2f} %"
            )
            more = float(np.expm1(loss - exact))
            rows.append({"weights": kind or "float32", "head": head, "loss": loss, "perplexity_more": more})
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
