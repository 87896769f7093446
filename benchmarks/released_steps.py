"""What the number of steps does to the released form: means of the paper's metrics.

    python benchmarks/released_steps.py ROOT_OF_TNO [PAIRS]

Takes the first PAIRS (default 4) pairs; writes results/released_steps.csv.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from ddfm.benchmark.datasets import DATASETS, find_pairs
from ddfm.benchmark.methods import find_methods
from ddfm.benchmark.run import run

RESULTS = Path(__file__).parent / "results" / "released_steps.csv"


def main() -> None:
    root, limit = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4
    tno, rows = DATASETS["tno"], []
    pairs = find_pairs(tno, root)[:limit]
    for steps in (10, 25, 50, 100):
        methods = find_methods(["ddfm:released"], tno, [pair.stem for pair in pairs], steps=steps)
        means = {name: r.mean for name, r in run(tno, root, pairs, methods).evaluation.methods.items()}
        rows.append({"method": "released", "steps": steps, **means["ddfm:released"]})
        print(rows[-1], flush=True)
    rows.append({"method": "stretched-mean", "steps": "", **means["stretched-mean"]})
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows)


if __name__ == "__main__":
    main()
