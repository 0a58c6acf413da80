"""A sweep of BERT-base size on GPUs: python scripts/bench/bert_base.py [FLAG ...]

Uses random weights and generated rows of 128 tokens, so nothing is downloaded. Prints how each
trial ended, how long each trained, the gaps between trials, and the CUDA memory in use when each
trial started. Flags and assignments that it does not define itself are passed to `sweeps run`: for
compiled trials, `torch_compile=True total_train_batch_size=32 --scheduler fifo --trials-per-gpu 1`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from timeline import main as print_timeline

from sweeps.builders.text_classification import TextClassification
from sweeps.space.loading import load_space

if TYPE_CHECKING:
    from transformers import BertConfig

EVAL_ROWS, TOKENS = 1024, 128


def make_inputs(
    folder: Path, train_rows: int, config: BertConfig | None = None
) -> tuple[Path, Path]:
    """Write a model (None: of BERT-base size) and a dataset; return their folders."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    builder = load_space("bert_yelp").space.build_trainer
    assert isinstance(builder, TextClassification)
    model = folder / "model"
    torch.manual_seed(0)
    BertForSequenceClassification(config or BertConfig()).save_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(builder.tiny().model)
    tokenizer.save_pretrained(model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["model_max_length"] = 512
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    draw = random.Random(0)
    data = folder / "data"
    data.mkdir()
    for split, rows in (("train", train_rows), ("validation", EVAL_ROWS)):
        with (data / f"{split}.jsonl").open("w") as file:
            for _ in range(rows):
                label = draw.randrange(5)
                text = [words[label]] * 8 + draw.choices(words, k=TOKENS)
                file.write(json.dumps({"text": " ".join(text), "label": label}) + "\n")
    return model, data


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="folder for the sweep; default: a temporary one")
    parser.add_argument("--rows", type=int, default=8192, help="train rows")
    asked, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        model, data = make_inputs(Path(temporary), asked.rows)
        storage = asked.keep or Path(temporary) / "results"
        words = f"-m sweeps run bert_yelp model={model} dataset={data} max_tokens={TOKENS}"
        flags = f"--workers-per-trial {asked.workers} --num-trials {asked.trials}"
        command = [sys.executable, *words.split(), *flags.split(), *others]
        fixed = [f"train_rows={asked.rows}", f"eval_rows={EVAL_ROWS}"]
        subprocess.run([*command, *fixed, "--storage", str(storage)], check=True)
        sweep = max(storage.glob("*/events.jsonl"), key=lambda path: path.stat().st_mtime).parent
        sys.argv = ["timeline", str(sweep)]
        print_timeline()
        for log in sorted(sweep.glob("logs/group*-rank*.log")):
            for line in log.read_text().splitlines():
                if "CUDA memory" in line:
                    print(log.stem, line)


if __name__ == "__main__":
    main()
