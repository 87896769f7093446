"""What the number of steps does to the released form: means of the paper's metrics.

    python benchmarks/released_steps.py ROOT_OF_TNO [PAIRS]

Takes the first PAIRS (default 4) pairs; writes results/released_steps.csv.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from common import script_parser, write_result

from ddfm.benchmark.datasets import DATASETS, find_pairs
from ddfm.benchmark.methods import find_methods
from ddfm.benchmark.run import run


def main() -> None:
    parser = script_parser(__doc__, "released_steps.csv")
    parser.add_argument("root", type=Path, metavar="TNO", help="folder with ir/ and vi/")
    parser.add_argument("limit", type=int, nargs="?", default=4, metavar="N", help="pairs, the first ones")
    arguments = parser.parse_args()
    root, limit = arguments.root, arguments.limit
    tno, rows = DATASETS["tno"], []
    pairs = find_pairs(tno, root)[:limit]
    for steps in (10, 25, 50, 100):
        methods = find_methods(["ddfm:released"], tno, [pair.stem for pair in pairs], steps=steps)
        means = {name: r.mean for name, r in run(tno, root, pairs, methods).evaluation.methods.items()}
        rows.append({"method": "released", "steps": steps, **means["ddfm:released"]})
        print(rows[-1], flush=True)
    rows.append({"method": "stretched-mean", "steps": "", **means["stretched-mean"]})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    write_result(arguments.output, text.getvalue())


if __name__ == "__main__":
    main()
