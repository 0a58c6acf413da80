"""Where the time goes before a trial's first step: python scripts/bench/loading.py [SIZE ...]

Writes a Llama with random weights in bfloat16, of 1 or 7 billion weights (`1b`, `7b`; `tiny` to try
this script), and builds it as a trial does: in float32, from local files, twice in one process, on
a GPU if there is one. Then it loads the files straight to the GPU. Last, it builds the model from a
copy of the weights in host memory, which a worker group could keep, and compares each tensor's sum.
"""

import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments

WIDE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22},
    "7b": WIDE,
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROWS = [{"input_ids": torch.arange(512), "labels": torch.arange(512)}] * 2


@contextmanager
def timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    print(f"  {what:42} {time.perf_counter() - begun:7.2f} s", flush=True)


def write(size: str, folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        heads = max(2, SIZES[size]["hidden_size"] // 128)
        config = LlamaConfig(**SIZES[size], num_attention_heads=heads, vocab_size=32000)
        model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    count = sum(weights.numel() for weights in model.parameters())
    print(f"{size}: {count / 1e9:.2f} billion weights")
    model.save_pretrained(folder, max_shard_size="5GB")


def from_files(folder: Path, **more: object) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32", **more)


def from_copy(folder: Path, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return a model on the device with these weights; its buffers come from its constructor."""
    config = AutoConfig.from_pretrained(folder, dtype="float32")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    moved = {name: one.to(DEVICE, copy=True, non_blocking=True) for name, one in weights.items()}
    model.load_state_dict(moved, assign=True)
    model.tie_weights()
    return model


def free() -> None:
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def train(model: torch.nn.Module, folder: Path) -> None:
    """Wrap the model and train two steps, with SGD, so that 7 B fit on one GPU."""
    args = TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=1,
        per_device_train_batch_size=1,
        optim="sgd",
        bf16=DEVICE == "cuda",
        use_cpu=DEVICE == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    with timed("Trainer()"):
        trainer = Trainer(model=model, args=args, train_dataset=ROWS)
    with timed("train(): wrap, optimizer, first step"):
        trainer.train()
    with timed("train(): once more"):
        trainer.train()


def trial(build: Callable[[], torch.nn.Module], folder: Path, what: str) -> None:
    with timed(what):
        model = build()
    with timed("to the device"):
        model.to(DEVICE)
    train(model, folder)


def bench(size: str, folder: Path) -> None:
    with timed("written"):
        write(size, folder)
    free()
    for turn in ("first", "second"):
        print(f" {turn} trial, from files")
        trial(lambda: from_files(folder), folder, "from_pretrained")
        free()
    if DEVICE == "cuda":
        print(" from files straight to the GPU")
        with timed("from_pretrained(device_map)"):
            from_files(folder, device_map={"": 0})
        free()
    model = from_files(folder)
    with timed("copy in host memory taken"):
        weights = {
            name: one.pin_memory() if DEVICE == "cuda" else one.clone()
            for name, one in model.state_dict().items()
        }
    expected = {name: one.double().sum().item() for name, one in model.state_dict().items()}
    names = set(dict(model.named_buffers()))
    del model
    free()
    print(" from the copy")
    with timed("meta model, weights to the device"):
        model = from_copy(folder, weights)
    found = {name: one.double().sum().item() for name, one in model.state_dict().items()}
    off = [name for name, one in expected.items() if abs(found[name] - one) > 1e-6 * abs(one)]
    print(f"  weights that differ: {len(off)}; buffers that are not in it: {sorted(names)}")
    sizes = sum(one.nbytes for one in weights.values())
    print(f"  host memory that the copy takes: {sizes / 1e9:.1f} GB")
    del model, weights
    free()


def main() -> None:
    transformers.logging.disable_progress_bar()
    for size in sys.argv[1:] or ["1b", "7b"]:
        folder = Path(tempfile.mkdtemp())
        try:
            bench(size, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
