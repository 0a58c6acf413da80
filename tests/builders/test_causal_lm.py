"""`CausalLM`: what it refuses, how it cuts texts into blocks, and that its `Trainer` learns."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeps.builders.base import TINY
from sweeps.builders.causal_lm import CausalLM
from sweeps.builders.hub import not_on_the_hub
from sweeps.errors import UserError

HUB = CausalLM(model="openai-community/gpt2", dataset="Salesforce/wikitext")


def write(folder: Path, **splits: Sequence[str]) -> str:
    """A dataset folder with a text column."""
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in splits.items():
        Dataset.from_dict({"text": list(texts)}).to_parquet(folder / f"{name}.parquet")
    return str(folder)


def on(dataset: str, **fields: Any) -> CausalLM:
    """The tiny model on a dataset of one's own."""
    return dataclasses.replace(HUB.tiny(), **{"dataset": dataset, "block_tokens": 4, **fields})


def model_with(folder: Path, **settings: Any) -> str:
    """The tiny model with another config or tokenizer config."""
    shutil.copytree(TINY / "causal_model", folder)
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        own = {key: value for key, value in settings.items() if key in content}
        (folder / name).write_text(json.dumps(content | own))
    return str(folder)


def refusal(builder: CausalLM, step: str = "check") -> str:
    with pytest.raises(UserError) as caught:
        getattr(builder, step)()
    return str(caught.value)


def blocks(table: Any) -> list[str]:
    tokenizer = HUB.tiny().prepare().tokenizer
    return [" ".join(tokenizer.convert_ids_to_tokens(row)) for row in table["input_ids"]]


# What check() refuses


def test_the_shipped_model_and_data_are_sound() -> None:
    HUB.tiny().check()
    dataclasses.replace(HUB.tiny(), lora_rank=2).check()


def test_importing_the_builder_imports_no_heavy_library() -> None:
    code = (
        "import sys, sweeps.builders.causal_lm\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'peft', 'numpy', 'ray'}"
        " & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    wrong = on(
        write(tmp_path / "data", train=["the food was good"] * 20),
        dataset_config="en",
        text_column="sentence",
        block_tokens=1,
        lora_rank=0,
        lora_dropout=1.0,
        from_scratch=True,
    )
    assert refusal(wrong) == (
        "CausalLM has 6 problems\n"
        "  block_tokens=1: must be an integer of at least 2\n"
        "  lora_rank=0: must be an integer of at least 1\n"
        "  lora_dropout=1.0: must be in [0, 1)\n"
        "  from_scratch=True: LoRA adapts existing weights; remove lora_rank\n"
        "  dataset_config='en': this folder has no configurations; remove it\n"
        "  text_column='sentence': no such column in train (found: text)"
    )


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert refusal(dataclasses.replace(HUB.tiny(), lora_rank=4)) == (
        "CausalLM: lora_rank=4: requires peft; run pip install 'sweeps[lora]'"
    )


def test_a_block_longer_than_the_models_positions_is_refused() -> None:
    assert refusal(dataclasses.replace(HUB.tiny(), block_tokens=65)) == (
        f"CausalLM: block_tokens=65: model='{TINY}/causal_model' accepts at most 64 tokens"
    )
    dataclasses.replace(HUB.tiny(), block_tokens=64).check()


def test_a_folder_without_weights_is_refused_unless_they_are_drawn_anew(tmp_path: Path) -> None:
    model = model_with(tmp_path / "model")
    Path(model, "model.safetensors").unlink()
    bare = dataclasses.replace(HUB.tiny(), model=model)
    assert refusal(bare) == (
        f"CausalLM: model='{model}': contains no weights; set from_scratch=True to initialise new"
        " ones"
    )
    dataclasses.replace(bare, from_scratch=True).check()
    weights = Path(model, "model.safetensors")
    weights.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    assert f"{weights}: this is a Git LFS pointer" in refusal(bare)
    dataclasses.replace(bare, from_scratch=True).check()


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(HUB).startswith(
        "CausalLM has 2 problems\n"
        "  model='openai-community/gpt2': not a local folder, and the Hub is"
        " disabled by HF_HUB_OFFLINE; "
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    message = str(not_on_the_hub("model='openai-community/gpt2'"))
    assert "not a local folder, and the Hub cannot be reached; " in message


# What prepare() makes of texts


def test_documents_are_joined_by_the_end_of_text_token_and_cut_without_padding(
    tmp_path: Path,
) -> None:
    dataset = write(
        tmp_path, train=["the food was good", "", "our soup is cold"], validation=["the pizza was"]
    )
    data = on(dataset).prepare()
    assert blocks(data.train) == ["the food was good", "<|endoftext|> our soup is"]
    assert blocks(data.eval) == ["the pizza was <|endoftext|>"]
    assert data.train.cache_files  # mapped, not in memory


def test_lines_of_running_text_are_joined_as_they_are(tmp_path: Path) -> None:
    dataset = write(
        tmp_path, train=["the food was", "", "good !", "our"], validation=["the pizza was great"]
    )
    data = on(dataset, documents=False, block_tokens=3).prepare()
    assert blocks(data.train) == ["the food was", "good ! our"]


def test_a_newline_ends_a_line_that_has_none() -> None:
    from sweeps.builders.causal_lm import _Cutter

    seen: list[str] = []

    def tokenizer(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        seen.extend(texts)
        return {"input_ids": [[0] for _ in texts]}

    _Cutter(tokenizer, "text", False, 2).blocks({"text": ["one", "two\n", ""]})  # type: ignore[arg-type]
    assert seen == ["one\n", "two\n", "\n"]


def test_blocks_run_on_from_one_batch_of_rows_to_the_next(tmp_path: Path) -> None:
    dataset = write(
        tmp_path, train=["the food was good"] * 2001, validation=["the soup is cold"] * 2
    )
    data = on(dataset, block_tokens=7).prepare()
    assert len(data.train) == 2001 * 5 // 7
    whole = " ".join(blocks(data.train)).split()
    assert whole == (["the", "food", "was", "good", "<|endoftext|>"] * 2001)[: len(whole)]


def test_only_the_validation_split_is_judged_by_and_test_is_never_read(tmp_path: Path) -> None:
    dataset = write(tmp_path, train=["the food was good"] * 9, validation=["our soup is cold"])
    (tmp_path / "test.parquet").write_bytes(b"damaged")
    on(dataset).check()
    assert blocks(on(dataset).prepare().eval) == ["our soup is cold"]


def test_too_little_text_is_refused_with_its_length(tmp_path: Path) -> None:
    dataset = write(tmp_path, train=["the food was good", "cold"], validation=["", " "])
    assert refusal(on(dataset, block_tokens=8), "prepare") == (
        "CausalLM has 2 problems\n"
        "  text_column='text': the 2 train rows contain 7 tokens, fewer than one block"
        " (block_tokens=8); lower block_tokens, or add rows\n"
        "  text_column='text': the 2 eval rows contain 0 tokens, fewer than one block"
        " (block_tokens=8); lower block_tokens, or add rows"
    )


def test_documents_need_an_end_of_text_token(tmp_path: Path) -> None:
    model = model_with(tmp_path / "model", eos_token=None)
    builder = dataclasses.replace(HUB.tiny(), model=model)
    assert refusal(builder, "prepare") == (
        f"CausalLM: model='{model}': its tokenizer has no end-of-text token to insert between"
        " documents; add one, or set documents=False if the rows are lines of running text"
    )
    assert len(dataclasses.replace(builder, documents=False).prepare().train) > 100


def test_a_column_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": [[1, 2]] * 30}).to_parquet(tmp_path / "train.parquet")
    message = refusal(on(str(tmp_path)), "prepare")
    assert message.startswith("CausalLM: text_column='text': this column of train contains List(")
    assert message.endswith(", not text")


# What its Trainer does


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on busy cores wait for each other: seen 100 s for what takes 2."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer_for(tmp_path: Path, builder: CausalLM, **fields: Any) -> Any:
    from transformers import TrainingArguments, set_seed

    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 16,
        "num_train_epochs": 2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 17,
    }
    args = TrainingArguments(**(settings | fields))
    set_seed(args.seed)
    return builder(args, data=builder.prepare())


def without_dropout(tmp_path: Path) -> CausalLM:
    model = model_with(tmp_path / "still", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return dataclasses.replace(HUB.tiny(), model=model)


def test_training_moves_every_parameter_and_lowers_the_perplexity(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, HUB.tiny())
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    untrained = trainer.evaluate()
    trainer.train()
    trained = trainer.evaluate()
    still = [name for name, value in trainer.model.named_parameters() if value.equal(before[name])]
    assert still == []
    assert trained["eval_perplexity"] < untrained["eval_perplexity"] - 0.3
    assert trained["eval_perplexity"] == pytest.approx(math.exp(trained["eval_loss"]))


def test_weights_drawn_anew_are_those_of_the_seed_and_not_of_the_folder(tmp_path: Path) -> None:
    fresh = dataclasses.replace(HUB.tiny(), from_scratch=True)
    losses = [trainer_for(tmp_path, fresh, seed=s).evaluate()["eval_loss"] for s in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    known = trainer_for(tmp_path, HUB.tiny()).evaluate()["eval_loss"]
    assert losses[0] > known + 1
    assert losses[0] == pytest.approx(math.log(83), abs=0.2)  # 83 tokens, none likelier


def test_gradient_accumulation_changes_neither_loss_nor_gradient(tmp_path: Path) -> None:
    """Tolerance 1e-5, relative: the same sums, in another order of 32-bit additions."""
    builder = without_dropout(tmp_path)
    seen = []
    for rows_at_once, accumulation in ((32, 1), (16, 2), (8, 4)):
        trainer = trainer_for(
            tmp_path,
            builder,
            per_device_train_batch_size=rows_at_once,
            gradient_accumulation_steps=accumulation,
            max_steps=4,
            logging_steps=1,
        )
        trainer.train()
        logs = trainer.state.log_history
        loss = trainer.evaluate()["eval_loss"]
        seen.append([logs[0]["grad_norm"], logs[0]["loss"], logs[3]["grad_norm"], loss])
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert seen[2] == pytest.approx(seen[0], rel=1e-5)


def test_the_logged_loss_is_the_mean_over_the_predicted_tokens(tmp_path: Path) -> None:
    import torch

    builder = without_dropout(tmp_path)
    trainer = trainer_for(
        tmp_path,
        builder,
        train_sampling_strategy="sequential",
        max_steps=1,
        logging_steps=1,
        learning_rate=0.0,
    )
    trainer.train()
    first = builder.prepare().train[:16]["input_ids"]
    with torch.no_grad():
        loss = trainer.model.eval()(input_ids=first, labels=first).loss.item()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-5)


def test_the_evaluation_is_a_mean_over_blocks_whatever_the_batch_size(tmp_path: Path) -> None:
    losses = [
        trainer_for(tmp_path, HUB.tiny(), per_device_eval_batch_size=rows).evaluate()["eval_loss"]
        for rows in (1, 7, 64)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == pytest.approx(losses[0], rel=1e-6)


def test_the_mean_over_blocks_takes_the_place_of_hfs_loss() -> None:
    import numpy as np
    from transformers import EvalPrediction

    from sweeps.builders.causal_lm import _compute_metrics

    told = _compute_metrics(EvalPrediction(np.array([1.0, 2.0]), np.zeros((2, 4))))
    assert told == {"loss": 1.5, "perplexity": pytest.approx(math.exp(1.5))}
    assert _compute_metrics(EvalPrediction(np.array([800.0]), None))["perplexity"] == math.inf


def test_lora_trains_the_adapter_alone_and_saves_it_alone(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    builder = dataclasses.replace(HUB.tiny(), lora_rank=4, lora_alpha=8, lora_modules="all-linear")
    trainer = trainer_for(tmp_path, builder)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    untrained = trainer.evaluate()["eval_perplexity"]
    trainer.train()
    trained = trainer.evaluate()["eval_perplexity"]
    moved = {n for n, value in trainer.model.named_parameters() if not value.equal(before[n])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 4 * 2  # A and B of the four linear layers of each of two blocks
    assert trained < untrained - 0.05
    trainer.save_model(str(tmp_path / "saved"))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    rows = builder.prepare().eval[:4]["input_ids"]
    ours = trainer.model.eval()(input_ids=rows).logits
    assert loaded(input_ids=rows).logits.allclose(ours, atol=1e-6)


def test_rank_alpha_dropout_and_modules_reach_the_adapter(tmp_path: Path) -> None:
    builder = dataclasses.replace(
        HUB.tiny(), lora_rank=3, lora_alpha=6, lora_dropout=0.25, lora_modules=["c_fc"]
    )
    config = trainer_for(tmp_path, builder).model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6, 0.25)
    assert config.target_modules == {"c_fc"}


def test_weights_saved_in_half_precision_are_trained_in_full(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = model_with(tmp_path / "half")
    half = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    half.save_pretrained(model)
    for fields in ({}, {"from_scratch": True}, {"lora_rank": 2}):
        builder = dataclasses.replace(HUB.tiny(), model=model, **fields)
        trainer = trainer_for(tmp_path, builder)
        assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}
