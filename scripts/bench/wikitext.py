"""Tunes a small GPT-2 from scratch on a folder of wikitext: 12 trials on 2 workers.

`python scripts/bench/wikitext.py DATA WORK` takes a folder with train and validation splits of a
`text` column, one line of an article per row. In WORK it creates a byte-level BPE tokenizer of
4,096 tokens from the train split and a config of 1.3 million parameters. It prints the seconds that
`prepare()` takes without and with existing files, each in a new process and without the imports.
Then it runs the sweep and prints the perplexities of the winner, the first params and the worst.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

VOCABULARY, POSITIONS = 4096, 128
PREPARE = """
import sys, time
from pathlib import Path
from sweeps import CausalLM
from sweeps.builders.data.prepared_data import prepared_in
import datasets.arrow_writer
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1])
builder = CausalLM(model=sys.argv[1], from_scratch=True, dataset=sys.argv[2], documents=False,
                   block_tokens=int(sys.argv[3]))
with prepared_in(Path(sys.argv[4])):
    started = time.monotonic()
    data = builder.prepare()
    print(f"{time.monotonic() - started:.2f} s: {len(data.train)} + {len(data.eval)} blocks")
"""


def make_model(data: Path, model: Path) -> None:
    """Write the config and the tokenizer."""
    from datasets import load_dataset
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, PreTrainedTokenizerFast

    rows = load_dataset("parquet", data_files={"train": str(data / "train.parquet")})["train"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        rows["text"], vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        eos_token="<|endoftext|>",
        model_max_length=POSITIONS,
    ).save_pretrained(model)
    GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=128,
        n_layer=4,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    ).save_pretrained(model)


def main() -> None:
    """Prepare, run the sweep, and print the results."""
    data, work = (Path(word).resolve() for word in sys.argv[1:3])
    model = work / "gpt2-small"
    make_model(data, model)
    for name in ("without files", "with files"):
        words = [str(model), str(data), str(POSITIONS), str(work / "prepared")]
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, *words], capture_output=True, text=True, check=True
        )
        print(f"prepare {name}: {done.stdout.splitlines()[-1]}")
    command = [
        *(sys.executable, "-m", "sweeps", "run", "gpt2_wikitext2"),
        *(f"model={model}", "from_scratch=True", f"dataset={data}", "dataset_config=None"),
        *(f"block_tokens={POSITIONS}", "learning_rate=loguniform(1e-5, 1e-2)"),
        *("num_train_epochs=4", "--num-trials", "12", "--workers-per-trial", "2"),
        *("--storage", str(work / "results")),
    ]
    print(" ".join(command[1:]))
    started = time.monotonic()
    subprocess.run(command, check=True)
    print(f"the sweep took {time.monotonic() - started:.0f} s")
    told = subprocess.run(
        [*command[:3], "results", "gpt2_wikitext2", "--storage", str(work / "results"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    values = {trial["trial"]: trial["value"] for trial in found["trials"] if trial["value"]}
    for name, trial in (
        ("winner", min(values, key=values.__getitem__)),
        ("first params", "t001"),
        ("worst", max(values, key=values.__getitem__)),
    ):
        print(f"{name}: {trial}, perplexity {values[trial]:.1f}")


if __name__ == "__main__":
    main()
