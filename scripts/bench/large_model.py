"""Does sharing pay off for larger models? python scripts/bench/large_model.py [--json FILE]

LoRA trials of a Llama with 1.1 billion random weights, 8 blocks of 1,024 tokens per step, bf16: as
many at a time as `sweeps` chooses, and one at a time, in turn. Prints how busy a trial kept the
GPU, how many trials ran at a time, and the seconds from the first `train()` to the last end.
Without a GPU, it trains a tiny model, which only tests the script. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timeline import trains
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sweeps.builders.causal_lm import CausalLM
from sweeps.records.event_log import read_events
from sweeps.records.events import GpuMeasured
from sweeps.space.loading import load_space

WAYS = {"4": "as `sweeps` chooses", "1": "one at a time"}
"""Values of `--trials-per-gpu`; 4 is the default."""
GPU = torch.cuda.is_available()
TOKENS, BATCH, STEPS = (1024, 8, 64) if GPU else (32, 2, 8)
EVALUATIONS = 8


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """Write the model and the dataset; return their folders."""
    builder = load_space("smollm2_lora").space.build_trainer
    assert isinstance(builder, CausalLM)
    tokenizer = AutoTokenizer.from_pretrained(builder.tiny().model, model_max_length=TOKENS)
    # The shape of TinyLlama (Zhang et al. 2024).
    shape = {"num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4}
    widths = {"hidden_size": 2048, "intermediate_size": 5632, "vocab_size": 32_000}
    if not GPU:
        shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        widths = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = LlamaConfig(**shape, **widths, max_position_embeddings=TOKENS)
    model, data = folder / "model", folder / "data"
    with torch.device("cuda" if GPU else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(model)
    torch.cuda.empty_cache()
    tokenizer.save_pretrained(model)
    data.mkdir()
    draw = random.Random(0)
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    for split, blocks in (("train", BATCH * STEPS), ("validation", 4 * BATCH)):
        with (data / f"{split}.jsonl").open("w") as file:
            for _ in range(blocks):
                text = " ".join(draw.choices(words, k=TOKENS))
                file.write(json.dumps({"text": text}) + "\n")
    return model, data


def run(way: str, inputs: tuple[Path, Path], trials: int, storage: Path) -> dict[str, float]:
    """Run a sweep; return the seconds of training, and what its log says about the GPU."""
    model, data = inputs
    rates = [round(1e-4 * 1.1**number, 8) for number in range(trials)]
    fields = {
        "model": model,
        "dataset": data,
        "block_tokens": TOKENS,
        "train_rows": BATCH * STEPS,
        "eval_rows": 4 * BATCH,
        "learning_rate": f"choice({rates})",
        "lora_rank": 8,
        "total_train_batch_size": BATCH,
        "max_rows_per_device": BATCH,
    }
    words = [f"{name}={value}" for name, value in fields.items()]
    words += ["--num-trials", str(trials), "--scheduler", "fifo", "--searcher", "random"]
    words += ["--workers-per-trial", "1", "--trials-per-gpu", way, "--storage", str(storage)]
    if not GPU:
        words += ["--max-concurrent", "1"]
    subprocess.run([sys.executable, "-m", "sweeps", "run", "smollm2_lora", *words], check=True)
    (log,) = storage.glob("*/events.jsonl")
    spans = sorted(span for group in trains(log)[2].values() for span in group)
    if len(spans) != trials:
        raise RuntimeError(f"{len(spans)} of {trials} trials ended")
    use = [event for event, _ in read_events(log) if isinstance(event, GpuMeasured)]
    return {
        "training_s": max(end for _, end in spans) - spans[0][0],
        "trial_s": statistics.median(end - begin for begin, end in spans),
        "at_a_time": max(sum(b <= begin < e for b, e in spans) for begin, _ in spans),
        **({"busy": use[0].busy or 0.0, "memory_gb": use[0].memory / 1e9} if use else {}),
    }


def main() -> None:
    """Run both ways in turn, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="Does sharing pay off for larger models?")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="sweeps-large-") as temporary:
        inputs = make_inputs(Path(temporary))
        for number in range(asked.rounds):
            for way in WAYS:
                storage = Path(temporary) / f"{way}-{number}"
                found[way].append(run(way, inputs, asked.trials, storage))
                print(WAYS[way], json.dumps(found[way][-1]), flush=True)
                if asked.json:
                    asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print("| | first `train()` to last end | a trial | at a time | GPU busy | memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way, name in WAYS.items():
        took = ", ".join(f"{one['training_s']:.1f} s" for one in found[way])
        one = found[way][0]
        use = f"{100 * one['busy']:.0f} % | {one['memory_gb']:.1f} GB" if "busy" in one else " | "
        print(f"| {name} | {took} | {one['trial_s']:.1f} s | {one['at_a_time']} | {use} |")


if __name__ == "__main__":
    main()
