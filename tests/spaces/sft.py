"""TRL's `SFTTrainer` on a tiny GPT-2 made here: fields of `SFTConfig` are tuned like any other."""

from typing import Any

from datasets import Dataset
from ray import tune
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from sweeps import SearchSpace, when

WORDS = ["<end>", "one", "two", "three", "four", "five", "six", "seven", "eight"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"text": [" ".join(WORDS[1 + i % 3 :]) for i in range(count)]})


def build(args: SFTConfig, *, width: int = 8) -> Any:
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(WORDS), n_positions=32, n_embd=width, n_layer=1, n_head=2)
    )
    return SFTTrainer(
        model=model,
        args=args,
        train_dataset=rows(32),
        eval_dataset=rows(8),
        processing_class=tokenizer(),
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={
        "learning_rate": tune.loguniform(1e-3, 1e-1),
        "width": tune.choice([8, 16]),
        "packing": tune.choice([True, False]),
        "max_length": tune.choice([8, 16]),
        "packing_strategy": when({"packing": True}, tune.choice(["bfd", "wrapped"])),
    },
    fixed={"num_train_epochs": 1, "total_train_batch_size": 4, "dataset_num_proc": None},
    first_params=[{"learning_rate": 1e-2, "width": 8, "packing": False, "max_length": 16}],
    evals_per_trial=2,
)
