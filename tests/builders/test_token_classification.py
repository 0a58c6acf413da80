"""`TokenClassification`: how tags meet tokens, what it refuses, and that its `Trainer` learns."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps import TokenClassification
from sweeps.builders.base import TINY
from sweeps.builders.data.prepared_data import prepared_in
from sweeps.errors import UserError

ROOT = Path(__file__).parents[2]
BUILDER = TokenClassification(model="-/-", dataset="-/-").tiny()
WORDS = ["the", "lunch", "pizza", "was", "great"]
TAGS = ["O", "B-DISH", "I-DISH", "O", "O"]

Rows = Sequence[Mapping[str, Any]]


def rows(*pairs: tuple[list[str], list[Any]]) -> Rows:
    return [{"tokens": tokens, "ner_tags": tags} for tokens, tags in pairs]


def write(folder: Path, train: Rows, validation: Rows, names: Sequence[str] = ()) -> str:
    """A dataset folder; `ClassLabel` tags with `names`, else as they are."""
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = None
    if names:
        tag = List(ClassLabel(names=list(names)))
        features = Features({"tokens": List(Value("string")), "ner_tags": tag})
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("train", train), ("validation", validation)):
        made = Dataset.from_list([dict(row) for row in table], features=features)
        made.to_parquet(folder / f"{name}.parquet")
    return str(folder)


def on(dataset: str, **fields: Any) -> TokenClassification:
    return dataclasses.replace(BUILDER, dataset=dataset, **fields)


@pytest.fixture
def in_pieces(tmp_path: Path) -> str:
    """The tiny model with a tokenizer that cuts unknown words into letters."""
    from transformers import AutoModel, BertTokenizer

    letters = [f"{prefix}{letter}" for prefix in ("", "##") for letter in "abcdefghij"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "pizza", *letters]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path / "m")
    AutoModel.from_pretrained(TINY / "tagging_model").save_pretrained(tmp_path / "m")
    return str(tmp_path / "m")


# Words and their tags.


def test_a_word_in_several_pieces_is_labelled_at_its_first(tmp_path: Path, in_pieces: str) -> None:
    data = write(
        tmp_path / "d",
        rows((["the", "abc", "dig"], ["O", "B-X", "I-X"])),
        rows((["the", "abc", "pizza"], ["O", "B-X", "I-X"])),
    )
    prepared = on(data, model=in_pieces).prepare()
    assert prepared.label_names == ("B-X", "I-X", "O")
    tokenizer = prepared.tokenizer
    assert tokenizer.convert_ids_to_tokens(prepared.train[0]["input_ids"]) == [
        *("[CLS]", "the", "a", "##b", "##c", "d", "##i", "##g", "[SEP]")
    ]
    assert prepared.train[0]["labels"] == [-100, 2, 0, -100, -100, 1, -100, -100, -100]
    assert prepared.eval[0]["labels"] == [-100, 2, 0, -100, -100, 1, -100]


def test_words_beyond_max_tokens_are_left_out_with_their_tags(
    tmp_path: Path, in_pieces: str
) -> None:
    one = rows((["abc", "the", "pizza"], ["B-X", "O", "O"]))
    prepared = on(write(tmp_path / "d", one, one), model=in_pieces, max_tokens=5).prepare()
    assert prepared.train[0]["labels"] == [-100, 0, -100, -100, -100]


def test_entity_words_without_tokens_are_counted_and_said(tmp_path: Path) -> None:
    blank = (["\u200b", "lunch", " ", "was", "\u200b"], ["B-DISH", "I-DISH", "O", "O", "B-DISH"])
    dataset = write(tmp_path, rows(blank, (WORDS, TAGS)), rows((WORDS, TAGS), (["the"], ["O"])))
    told: list[str] = []
    with prepared_in(tmp_path / "prepared", told.append):
        on(dataset).prepare()
    assert [line for line in told if "tokens" in line] == [
        "2 entity words in the train rows have no tokens, for example '\\u200b'; neither the loss"
        " nor the metrics count them"
    ]


def test_class_label_ids_keep_their_names_and_order(tmp_path: Path) -> None:
    names = ["O", "B-DISH", "I-DISH"]
    one = rows((WORDS, [names.index(tag) for tag in TAGS]))
    prepared = on(write(tmp_path, one, one, names)).prepare()
    assert prepared.label_names == tuple(names)
    assert prepared.train[0]["labels"] == [-100, 0, 1, 2, 0, 0, -100]


def test_sentences_without_words_are_left_out(tmp_path: Path) -> None:
    table = rows((WORDS, TAGS), ([], []), (WORDS, TAGS))
    assert len(on(write(tmp_path, table, table)).prepare().train) == 2


def test_a_byte_level_tokenizer_takes_words(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import GPT2Tokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate([*letters, "<|endoftext|>"])}
    GPT2Tokenizer(vocab=vocab, merges=[]).save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "gpt2"}')
    one = rows((["ab", "c"], ["B-X", "O"]))
    prepared = on(write(tmp_path / "d", one, one), model=str(tmp_path / "m")).prepare()
    assert prepared.train[0]["labels"] == [0, -100, -100, 1, -100]
    assert prepared.tokenizer.pad_token == "<|endoftext|>"


# What it refuses.

GOOD = (WORDS, TAGS)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            [{"tokens": "the pizza", "ner_tags": ["O"]}],
            "tokens_column='tokens': this column of train contains Value('string'), not lists",
        ),
        (
            [{"tokens": [1, 2], "ner_tags": ["O", "O"]}],
            "tokens_column='tokens': this column of train contains lists of Value('int64'), not"
            " lists of text",
        ),
        (
            [*rows(GOOD), {"tokens": WORDS, "ner_tags": None}],
            "tags_column='ner_tags': train has 1 row without a list; remove such rows",
        ),
        (
            rows(GOOD, (["the", None], ["O", "O"])),  # type: ignore[list-item]
            "tokens_column='tokens': lists of train contain null (1 in total); remove those rows",
        ),
        (
            rows(GOOD, (WORDS, TAGS[1:]), (WORDS, ["O"])),
            "row 1 of train has 5 words in 'tokens' and 4 tags in 'ner_tags' (2 such rows)",
        ),
        (
            rows((WORDS, ["O", "S-DISH", "O", "O", "O"])),
            "tags_column='ner_tags': 'S-DISH' is not an IOB2 tag; use 'O', or 'B-' or 'I-'"
            " followed by the entity type",
        ),
        (
            rows((WORDS, [0, 1, 2, 0, 0])),
            "tags_column='ner_tags': '0' is not an IOB2 tag; use 'O', or 'B-' or 'I-' followed by"
            " the entity type",
        ),
        (
            rows((WORDS, ["O", "B-DISH", "O", "O", "O"])),
            "tags_column='ner_tags': the eval rows contain labels that occur in none of the 1"
            " train rows: 'I-DISH'; use more train rows, or drop these eval rows",
        ),
    ],
    ids=["text", "numbers", "none", "empty", "lengths", "IOBES", "ids without names", "unseen"],
)
def test_columns_that_hold_no_tagged_words_are_refused(
    train: Rows, said: str, tmp_path: Path
) -> None:
    evaluation = rows(GOOD) if "eval rows" in said else train
    with pytest.raises(UserError) as raised:
        on(write(tmp_path, train, evaluation)).prepare()
    assert said in str(raised.value)


def test_missing_columns_and_senseless_numbers_are_found_before_rows_are_read() -> None:
    builder = dataclasses.replace(BUILDER, tokens_column="words", tags_column="tags", max_tokens=2)
    with pytest.raises(UserError) as raised:
        builder.check()
    found = "no such column in train and validation (found: tokens, ner_tags)"
    assert raised.value.problems == [
        "max_tokens=2: must be an integer of at least 3",
        f"tokens_column='words': {found}",
        f"tags_column='tags': {found}",
    ]


# What its Trainer does.


def trainer(tmp_path: Path, builder: TokenClassification = BUILDER, **fields: Any) -> Any:
    import torch
    from transformers import TrainingArguments, set_seed

    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 3,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 17,
    }
    args = TrainingArguments(**(settings | fields))
    set_seed(args.seed)
    return builder(args, data=builder.prepare())


def test_training_moves_every_parameter_and_finds_entities(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    before = {name: value.clone() for name, value in made.model.named_parameters()}
    made.train()
    assert [n for n, value in made.model.named_parameters() if value.equal(before[n])] == []
    scores = made.evaluate()
    assert scores["eval_f1"] > 0.6
    assert {"eval_loss", "eval_precision", "eval_recall"} < set(scores)
    low = trainer(tmp_path, learning_rate=1e-5)
    low.train()
    assert low.evaluate()["eval_f1"] < scores["eval_f1"] - 0.2


def test_the_evaluation_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    found = []
    for size in (1, 7, 100):  # batches of other widths, and a last one of its own
        made = trainer(tmp_path, per_device_eval_batch_size=size)
        found.append([made.evaluate()[f"eval_{name}"] for name in ("loss", "f1", "recall")])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_the_loss_is_the_mean_over_labelled_words(tmp_path: Path) -> None:
    import torch

    made = trainer(tmp_path)
    scores = made.evaluate()
    count = loss = 0.0
    for row in made.eval_dataset:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = made.model(input_ids=ids).logits[0]
        kept = [i for i, label in enumerate(row["labels"]) if label != -100]
        wanted = torch.tensor([row["labels"][i] for i in kept])
        loss += float(torch.nn.functional.cross_entropy(logits[kept], wanted, reduction="sum"))
        count += len(kept)
    assert scores["eval_loss"] == pytest.approx(loss / count, rel=1e-5)
    assert count > 1000


def test_padding_of_other_workers_is_not_scored() -> None:
    """HF pads classes and labels of narrower batches with -100."""
    from transformers import EvalPrediction

    from sweeps.builders.token_classification import _Metrics

    classes = np.array([[0, 1, 2, -100], [0, 1, 0, 2]])
    labels = np.array([[-100, 1, 2, -100], [-100, 1, -100, 0]])
    evaluation = EvalPrediction(predictions=(classes, np.array([0.5, 1.5])), label_ids=labels)
    assert _Metrics(("O", "B-X", "I-X"))(evaluation) == {
        "loss": pytest.approx(2.0 / 4),
        "precision": pytest.approx(1 / 2),  # of the second row `B-X I-X` is found, `B-X` is right
        "recall": pytest.approx(1 / 2),
        "f1": pytest.approx(1 / 2),
    }


def test_what_a_sentence_adds_to_each_metric_comes_to_it() -> None:
    import numpy as np
    from transformers import EvalPrediction

    from sweeps.builders.token_classification import _Metrics
    from sweeps.records.row_values import pack

    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 3, (20, 8))
    classes = np.where(numbers.random((20, 8)) < 0.8, labels, 0)
    labels[:, 6:] = -100
    metrics = _Metrics(("O", "B-X", "I-X"))
    evaluation = EvalPrediction((classes, np.zeros(20)), labels)
    scores = metrics(evaluation)
    for name in ("f1", "precision", "recall"):
        found = metrics.row_parts(evaluation, f"eval_{name}")
        assert found is not None
        assert pack(*found, labels="", value=scores[name]) is not None
    assert metrics.row_parts(evaluation, "eval_loss") is None


def test_the_saved_model_names_its_tags_and_serves_in_its_pipeline(tmp_path: Path) -> None:
    from transformers import pipeline

    made = trainer(tmp_path)
    made.train()
    made.save_model(str(tmp_path / "saved"))
    task = BUILDER.pipeline.task
    find = pipeline(task, str(tmp_path / "saved"), aggregation_strategy="simple", device=-1)
    [found] = find("the lunch pizza was great .")
    assert (found["entity_group"], found["word"]) == ("DISH", "lunch pizza")


def test_the_shipped_sentences_are_those_that_the_script_generates() -> None:
    from datasets import Dataset

    spec = importlib.util.spec_from_file_location("make_tiny", ROOT / "scripts" / "make_tiny.py")
    assert spec is not None
    assert spec.loader is not None
    make_tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tiny)
    rng = random.Random(make_tiny.SEED)
    for split, count in (("train", make_tiny.TRAIN_ROWS), ("validation", make_tiny.EVAL_ROWS)):
        shipped = Dataset.from_parquet(str(TINY / "entities" / f"{split}.parquet"))
        assert shipped.to_list() == make_tiny.tagged_rows(count, rng).to_list()
