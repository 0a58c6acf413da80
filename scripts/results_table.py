"""Prints `results --json` as a Markdown table: python scripts/results_table.py FILE"""

import json
import sys
from pathlib import Path


def markdown(results: dict) -> str:
    """Return a table of the trials, best first."""
    tuned = list(results["trials"][0]["params"])
    head = ["trial", results["metric"], "status", "best at", *tuned, "train"]
    rows = [head, ["---"] * len(head)]
    for trial in results["trials"]:
        params = [trial["params"][key] for key in tuned]
        rows.append(
            [
                trial["trial"],
                "-" if trial["value"] is None else f"{trial['value']:.4f}",
                (trial["failure"] or trial["status"]).replace("_", " "),
                "-" if trial["progress"] is None else f"{trial['progress']:.0%}",
                *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in params),
                f"{trial['train_s']:.0f} s",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
