"""`TextClassification`: what it refuses, what it makes of data, and that its `Trainer` learns."""

from __future__ import annotations

import dataclasses
import gzip
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from sweeps.builders.base import TINY
from sweeps.builders.data.chosen_rows import choose_rows
from sweeps.builders.data.data_source import Split, hub_cache
from sweeps.builders.data.prepared_data import prepared_in
from sweeps.builders.pretrained import load_tokenizer, model_problems
from sweeps.builders.text_classification import TextClassification
from sweeps.errors import UserError

Rows = Sequence[Mapping[str, Any]]

HUB = TextClassification(model="google-bert/bert-base-cased", dataset="Yelp/yelp_review_full")


def rows(count: int, classes: Sequence[Any] = ("bad", "good"), word: str = "food") -> Rows:
    return [
        {"text": f"the {word} was fine", "label": classes[index % len(classes)]}
        for index in range(count)
    ]


def write(folder: Path, kind: str = "parquet", **splits: Rows) -> str:
    """A dataset folder with one file a split, or written by `save_to_disk`."""
    from datasets import Dataset, DatasetDict

    tables = {
        name: Dataset.from_list([dict(row) for row in table]) for name, table in splits.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "save_to_disk":
        DatasetDict(tables).save_to_disk(folder)
    for name, table in tables.items():
        if kind == "parquet":
            table.to_parquet(folder / f"{name}.parquet")
        elif kind == "csv":
            table.to_csv(folder / f"{name}.csv")
        elif kind == "jsonl":
            table.to_json(folder / f"{name}.jsonl")
    return str(folder)


def on(dataset: str, **fields: Any) -> TextClassification:
    """The tiny model on a dataset of one's own."""
    return dataclasses.replace(HUB.tiny(), dataset=dataset, **fields)


def texts(table: Any) -> list[str]:
    tokenizer = HUB.tiny().prepare().tokenizer
    return [tokenizer.decode(row, skip_special_tokens=True) for row in table["input_ids"]]


def refusal(builder: TextClassification, step: str = "check") -> str:
    with pytest.raises(UserError) as caught:
        getattr(builder, step)()
    return str(caught.value)


# What check() refuses


def test_the_shipped_model_and_data_are_sound_and_small() -> None:
    HUB.tiny().check()
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) < 250_000


def test_importing_the_builder_imports_no_heavy_library() -> None:
    code = (
        "import sys, sweeps.builders.text_classification\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'evaluate', 'numpy', 'ray'}"
        " & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_hub_that_cannot_be_reached_is_named_with_both_ways_on() -> None:
    ways_on = "use local folders (model=DIR dataset=DIR), or try the sweep with --tiny"
    assert refusal(HUB) == (
        "TextClassification has 2 problems\n"
        "  model='google-bert/bert-base-cased': not a local folder, and the Hub is"
        " disabled by HF_HUB_OFFLINE; "
        f"{ways_on}\n"
        "  dataset='Yelp/yelp_review_full': not a local folder, and the Hub is"
        " disabled by HF_HUB_OFFLINE; "
        f"{ways_on}"
    )


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", train=rows(20), validation=rows(4))
    (tmp_path / "model").mkdir()
    wrong = on(
        dataset,
        model=str(tmp_path / "model"),
        dataset_config="en",
        text_column="sentence",
        train_rows=0,
        max_tokens=2,
    )
    assert refusal(wrong) == (
        "TextClassification has 5 problems\n"
        "  train_rows=0: must be an integer of at least 1\n"
        "  max_tokens=2: must be an integer of at least 3\n"
        f"  model='{tmp_path / 'model'}': has no config.json, so it is not a Hugging Face model\n"
        "  dataset_config='en': this folder has no configurations; remove it\n"
        "  text_column='sentence': no such column in train and validation (found: text, label)"
    )


def test_folders_that_do_not_exist_are_not_looked_up_on_the_hub() -> None:
    assert refusal(TextClassification(model="./no/model", dataset="/no/data")) == (
        "TextClassification has 2 problems\n"
        "  model='./no/model': no such folder\n"
        "  dataset='/no/data': no such folder"
    )


def test_a_file_in_place_of_a_folder_is_not_said_to_be_missing(tmp_path: Path) -> None:
    for name in ("model.safetensors", "train.csv"):
        (tmp_path / name).write_text("")
    model, dataset = tmp_path / "model.safetensors", tmp_path / "train.csv"
    assert refusal(TextClassification(model=str(model), dataset=str(dataset))) == (
        "TextClassification has 2 problems\n"
        f"  model='{model}': this is a file; use the folder that contains it\n"
        f"  dataset='{dataset}': this is a file; use the folder that contains it"
    )


def test_a_model_without_tokenizer_and_too_few_positions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 128}')
    wrong = dataclasses.replace(HUB.tiny(), model=str(tmp_path), max_tokens=129)
    assert refusal(wrong) == (
        "TextClassification has 2 problems\n"
        f"  model='{tmp_path}': has no tokenizer; save its tokenizer in the same folder\n"
        f"  max_tokens=129: model='{tmp_path}' accepts at most 128 tokens"
    )
    shutil.copy(TINY / "model" / "tokenizer.json", tmp_path)
    dataclasses.replace(wrong, max_tokens=128).check()


@pytest.mark.parametrize(
    ("config", "tokens", "most"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512, None),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 513, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 514, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": None}, 514, 512),
        ({"model_type": "longformer", "max_position_embeddings": 4098}, 4096, None),
        ({"model_type": "camembert", "max_position_embeddings": 99, "pad_token_id": 3}, 96, 95),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 1}, 512, None),
        (
            {
                "model_type": "deberta-v2",
                "max_position_embeddings": 512,
                "position_biased_input": False,
            },
            1024,
            None,
        ),
        ({"model_type": "deberta", "max_position_embeddings": 512}, 1024, 512),
        ({"model_type": "t5", "n_positions": 512}, 1024, None),
        ({"model_type": "umt5", "n_positions": 512}, 1024, None),
        ({"model_type": "gpt2", "n_positions": 512}, 1024, 512),
    ],
    ids=str,
)
def test_the_length_that_a_model_accepts_follows_from_its_positions(
    config: dict[str, Any], tokens: int, most: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    said = f"max_tokens={tokens}: model='{tmp_path}' accepts at most {most} tokens"
    found = list(model_problems(str(tmp_path), None, tokens, "max_tokens"))
    assert found == ([said] if most else [])


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [
        ("Roberta", {"max_position_embeddings": 34, "pad_token_id": 1}, 32),
        ("DebertaV2", {"position_biased_input": False, "relative_attention": True}, None),
        ("T5", {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2, "num_layers": 1}, None),
    ],
)
def test_such_a_model_does_accept_that_length(
    kind: str, options: dict[str, Any], most: int | None
) -> None:
    import torch
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"vocab_size": 99, "intermediate_size": 16, "max_position_embeddings": 34}
    config = getattr(transformers, f"{kind}Config")(
        **{**small, **options, "eos_token_id": 2, "decoder_start_token_id": 0}
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    row = torch.tensor([[*[5] * ((most or 70) - 1), 2]])
    assert torch.isfinite(model(input_ids=row).logits).all()
    if most is not None:
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.tensor([[*[5] * most, 2]]))


def test_a_folder_without_train_split_shows_what_was_found(tmp_path: Path) -> None:
    dataset = write(tmp_path, validation=rows(4), test=rows(4))
    assert refusal(on(dataset)) == (
        f"TextClassification: dataset='{dataset}': no train split; expected train.parquet,"
        " train.csv, train.tsv, train.jsonl, train.json (each optionally with .gz), such files in"
        " train/ or data/, or a save_to_disk folder (found: test.parquet, validation.parquet)"
    )


def test_a_saved_folder_without_train_split_shows_its_splits(tmp_path: Path) -> None:
    dataset = write(tmp_path, "save_to_disk", eval=rows(4), test=rows(4))
    assert refusal(on(dataset)) == (
        f"TextClassification: dataset='{dataset}': no train split (found: eval, test)"
    )


def test_a_split_of_two_kinds_of_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "csv", train=rows(20))
    dataset = write(tmp_path, "jsonl", train=rows(20), validation=rows(4))
    assert refusal(on(dataset)) == (
        f"TextClassification: dataset='{dataset}': train exists as csv and jsonl; keep only one of"
        " them"
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train", "data/train"], "train exists as train.csv and data/train.csv"),
        (["train", "train/fold"], "train exists as train.csv and train/fold.csv"),
        (["train", "train-00000-of-00001"], "train.csv and train-00000-of-00001.csv"),
        (["train", "dev", "validation"], "validation exists as validation.csv and dev.csv"),
        (["train", "valid/a", "valid/b", "val"], "exists as val.csv and valid/a.csv"),
    ],
)
def test_a_split_in_two_places_is_refused(names: list[str], said: str, tmp_path: Path) -> None:
    for name in names:
        path = tmp_path / name
        write(path.parent, "csv", **{path.name: rows(20)})
    assert refusal(on(str(tmp_path))).endswith(f"{said}; keep only one of them")
    assert refusal(on(str(tmp_path)), "prepare").endswith(f"{said}; keep only one of them")


@pytest.mark.parametrize("name", ["train.csv", "train/one.csv", "my_train.csv"])
def test_a_file_beside_its_packed_copy_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path.parent, "csv", **{path.stem: rows(20)})
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    said = f"train exists as {name} and {name}.gz; keep only one of them"
    assert refusal(on(str(tmp_path))).endswith(said)


def as_json(table: Rows) -> str:
    return json.dumps(table, indent=1)


def as_lines(table: Rows) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in table)


def as_tsv(table: Rows) -> str:
    return "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in table)


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (("train.json", as_json), ("dev.jsonl.gz", as_lines)),
        (("data/train.jsonl.gz", as_lines), ("data/valid.tsv", as_tsv)),
        (("train-00000-of-00001.tsv.gz", as_tsv), ("validation/one.json.gz", as_json)),
        (("train/one.json", as_lines), ("val.json", as_lines)),
    ],
)
def test_files_of_every_kind_are_read_packed_or_not_and_each_split_in_its_own(
    tmp_path: Path, train: Any, validation: Any
) -> None:
    tables = [rows(20, word="service"), rows(4, word="food")]
    for (name, text), table in zip((train, validation), tables, strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = text(table).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    builder = on(str(tmp_path))
    builder.check()
    assert builder.count_rows() == (20, 4)
    prepared = builder.prepare()
    assert texts(prepared.train) == [row["text"] for row in tables[0]]
    assert texts(prepared.eval) == [row["text"] for row in tables[1]]


@pytest.mark.parametrize(
    "names",
    [
        ("plain_text/train-00000-of-00001.csv", "plain_text/validation-00000-of-00001.csv"),
        ("my_train.csv.gz", "my_dev.csv.gz", "my_test.csv.gz"),
        ("training.csv", "valid_1.csv", "evaluation.csv"),
        ("train/en/a.csv", "val/en/a.csv"),
    ],
)
def test_files_of_other_names_are_those_that_datasets_infers(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name, text in zip(names, ("service", "food", "price"), strict=False):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"text,label\nthe {text} was fine,0\nthe {text} was fine,1\n".encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    builder = on(str(tmp_path))
    builder.check()
    assert builder.count_rows() == (2, 2)
    prepared = builder.prepare()
    assert texts(prepared.train) == ["the service was fine"] * 2
    assert texts(prepared.eval) == ["the food was fine"] * 2


def test_a_single_file_is_the_train_split_and_several_without_a_split_are_not(
    tmp_path: Path,
) -> None:
    table = "text,label\n" + "the food was fine,0\nthe food was fine,1\n" * 10
    (tmp_path / "reviews.csv").write_text(table)
    (tmp_path / "README.md").write_text("Reviews.")
    on(str(tmp_path)).check()
    assert on(str(tmp_path)).count_rows() == (18, 2)
    (tmp_path / "held_back.csv").write_text(table)
    assert "no train split" in refusal(on(str(tmp_path)))


def test_folders_below_are_not_searched_where_files_are_named_after_their_split(
    tmp_path: Path,
) -> None:
    write(tmp_path, "csv", train=rows(6), validation=rows(4, word="room"))
    write(tmp_path / "results" / "train", "jsonl", train=rows(3))
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "events").write_text("no rows")
    on(str(tmp_path)).check()
    data = on(str(tmp_path)).prepare()
    assert (len(data.train), len(data.eval)) == (6, 4)


def test_a_local_data_set_may_have_configurations(tmp_path: Path) -> None:
    card = ["configs:"]
    for name, word in (("de", "room"), ("en", "food")):
        write(tmp_path / name, "csv", **{"train-00000-of-00001": rows(20, word=word)})
        card.append(f"- config_name: {name}\n  data_files: {name}/train-*")
    (tmp_path / "README.md").write_text("\n".join(["---", *card, "---"]))
    assert refusal(on(str(tmp_path))) == (
        f"TextClassification: dataset='{tmp_path}': set dataset_config to one of its"
        " configurations: de, en"
    )
    assert refusal(on(str(tmp_path), dataset_config="fr")) == (
        "TextClassification: dataset_config='fr': the folder has only de, en"
    )
    for name, word in (("de", "room"), ("en", "food")):
        builder = on(str(tmp_path), dataset_config=name)
        builder.check()
        assert set(texts(builder.prepare().train)) == {f"the {word} was fine"}


@pytest.mark.parametrize("name", ["rows", "train-*"])
def test_a_card_may_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    parts = {name.replace("*", str(part)): rows(10) for part in range(2)}
    outside = write(tmp_path / "outside", "csv", **parts)
    (tmp_path / "data").mkdir()
    card = f"---\nconfigs:\n- config_name: all\n  data_files: {outside}/{name}.csv\n---\n"
    (tmp_path / "data" / "README.md").write_text(card)
    builder = on(str(tmp_path / "data"), eval_rows=3)
    builder.check()
    data = builder.prepare()
    assert len(data.train) + len(data.eval) == 10 * len(parts)


@pytest.mark.parametrize("config", [None, "de"])
def test_a_card_that_is_not_yaml_is_said_to_be_so(tmp_path: Path, config: str | None) -> None:
    write(tmp_path, "csv", rows=rows(20))
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: de: en\n---\n")
    assert refusal(on(str(tmp_path), dataset_config=config)).startswith(
        f"TextClassification: dataset='{tmp_path}': the header of README.md is not valid YAML"
        " (mapping values are not allowed here"
    )


@pytest.mark.parametrize("content", [b"[1, 2]", b"{\n", b'"text"\n', b"\x00"])
def test_json_without_rows_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.json").write_bytes(content)
    assert refusal(on(str(tmp_path))).startswith(
        f"TextClassification: {tmp_path}/train.json: cannot be read as json ("
    )


def test_a_packed_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(as_lines(rows(20)).encode())[:20])
    assert "train.jsonl.gz: cannot be read as jsonl (" in refusal(on(str(tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
def test_rows_to_hold_out_must_leave_some_to_train_on(tmp_path: Path, kind: str) -> None:
    dataset = write(tmp_path, kind, train=rows(20))
    assert refusal(on(dataset, eval_rows=20)) == (
        "TextClassification: eval_rows=20: without a validation split, eval rows are held out from"
        " the train split, which has 20 rows; choose fewer than that, and at least 1, or add a"
        " validation split"
    )
    on(dataset, eval_rows=19).check()
    write(tmp_path / "more", kind, train=rows(20), validation=rows(5))
    on(str(tmp_path / "more"), eval_rows=20).check()


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    row = '{"text": "the food was fine", "label": 0}'
    (tmp_path / "train.jsonl").write_text(f"\n{row}\n\n{row.replace('0', '1')}\n\n\n")
    on(str(tmp_path), eval_rows=1).check()
    assert "which has 2 rows;" in refusal(on(str(tmp_path), eval_rows=2))


def test_a_damaged_train_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"not parquet at all")
    message = refusal(on(str(tmp_path)))
    assert message.startswith(
        f"TextClassification: {tmp_path}/train.parquet: cannot be read as parquet ("
    )


def test_a_damaged_folder_of_save_to_disk_is_named(tmp_path: Path) -> None:
    dataset = write(tmp_path, "save_to_disk", train=rows(20))
    (rows_file,) = (tmp_path / "train").glob("*.arrow")
    rows_file.write_bytes(b"no Arrow")
    message = refusal(on(dataset))
    assert message.startswith(f"TextClassification: dataset='{dataset}': cannot be read (")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_whose_config_is_damaged_is_named(tmp_path: Path, name: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY / "model", model)
    (model / name).write_text("{")
    message = refusal(dataclasses.replace(HUB.tiny(), model=str(model)))
    assert message.startswith(
        f"TextClassification: model='{model}': config.json or tokenizer_config.json is not valid"
        " JSON ("
    )


@pytest.mark.parametrize("content", ["{", '{"model": 3}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY / "model", model)
    (model / "tokenizer.json").write_text(content)
    message = refusal(dataclasses.replace(HUB.tiny(), model=str(model)), "prepare")
    assert message.startswith(f"model='{model}': its tokenizer cannot be loaded (")


def test_a_tokenizer_that_the_hub_does_not_give_is_named_with_why() -> None:
    with pytest.raises(UserError) as caught:
        load_tokenizer("someone/absent", None)
    assert str(caught.value).startswith(
        "model='someone/absent': not a local folder, and the Hub does not provide it ("
    )


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (404, "404 Client Error"),  # a repository that is not there
        (403, "An error happened while trying to locate the file"),  # a proxy that says no
    ],
)
def test_a_model_that_the_hub_refuses_is_named_with_why(
    monkeypatch: pytest.MonkeyPatch, status: int, why: str
) -> None:
    from huggingface_hub import constants

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        here = f"http://127.0.0.1:{hub.server_port}"
        files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "ENDPOINT", here)
        message = refusal(dataclasses.replace(HUB.tiny(), model="someone/private"))
        hub.shutdown()
    assert message.startswith(
        "TextClassification: model='someone/private': not a local folder, and the Hub does not "
        f"provide it ({why}"
    )


def test_what_the_hub_does_not_give_is_named_with_why() -> None:
    """A folder of the cache that holds nothing: only the Hub's own client can tell."""
    empty = hub_cache("someone/cut_off_in_its_download")
    empty.mkdir(parents=True)
    message = refusal(on("someone/cut_off_in_its_download"))
    empty.rmdir()
    assert message.startswith(
        "TextClassification: dataset='someone/cut_off_in_its_download': not a local folder, and "
        "the Hub does not provide it ("
    )
    assert message.endswith(
        "); use local folders (model=DIR dataset=DIR), or try the sweep with --tiny"
    )


def test_a_damaged_row_is_told_when_the_rows_are_read(tmp_path: Path) -> None:
    dataset = write(tmp_path, "jsonl", train=rows(20))
    file = tmp_path / "train.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:10], lines[10][:9], *lines[11:]]))
    on(dataset).check()
    message = refusal(on(dataset), "prepare")
    assert message.startswith(f"dataset='{dataset}': its rows cannot be read (JSON parse error: ")


# What prepare() makes of data


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
def test_every_kind_of_folder_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    dataset = write(tmp_path, kind, train=rows(6), validation=rows(4, word="room"))
    on(dataset).check()
    data = on(dataset).prepare()
    assert data.label_names == ("bad", "good")
    assert (len(data.train), len(data.eval)) == (6, 4)
    assert data.train["labels"][:] == [0, 1, 0, 1, 0, 1]
    assert texts(data.train) == ["the food was fine"] * 6
    assert texts(data.eval) == ["the room was fine"] * 4
    assert all(table.cache_files for table in (data.train, data.eval))  # mapped, not in memory


def test_shards_and_folders_of_files_are_read(tmp_path: Path) -> None:
    for shard in range(2):
        write(tmp_path / "data", "parquet", **{f"train-0000{shard}-of-00002": rows(3)})
    write(tmp_path / "dev", part=rows(2))
    on(str(tmp_path)).check()
    data = on(str(tmp_path)).prepare()
    assert (len(data.train), len(data.eval)) == (6, 2)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
def test_the_test_split_is_never_read(tmp_path: Path, kind: str) -> None:
    dataset = write(tmp_path, kind, train=rows(6), validation=rows(4), test=rows(4))
    if kind == "save_to_disk":
        for file in (tmp_path / "test").iterdir():
            file.write_bytes(b"\xff\xfe damaged")
    else:
        (tmp_path / f"test.{kind}").write_bytes(b"\xff\xfe damaged")
    on(dataset).check()
    assert len(on(dataset).prepare().eval) == 4


@pytest.mark.parametrize("kind", ["parquet", "save_to_disk"])
def test_preparing_writes_nothing_into_the_folder_of_the_data(tmp_path: Path, kind: str) -> None:
    """A new file would also change the version of the data, so that it is prepared again."""
    dataset = write(tmp_path, kind, train=rows(20), validation=rows(6))
    before = sorted(tmp_path.rglob("*"))
    on(dataset, train_rows=10, eval_rows=4).prepare()
    assert sorted(tmp_path.rglob("*")) == before


def test_whole_numbers_with_gaps_become_classes_from_0_and_keep_their_names(tmp_path: Path) -> None:
    dataset = write(tmp_path, "csv", train=rows(6, [10, -1, 3]), validation=rows(3, [10, -1, 3]))
    data = on(dataset).prepare()
    assert data.label_names == ("-1", "3", "10")
    assert data.train["labels"][:3] == [2, 0, 1]


def test_class_label_names_are_kept_in_their_order() -> None:
    data = HUB.tiny().prepare()
    assert data.label_names == ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    assert set(data.train["labels"][:]) == {0, 1, 2, 3, 4}


def test_text_that_looks_like_a_missing_value_stays_text(tmp_path: Path) -> None:
    table = [{"text": text, "label": f"is {text}"} for text in ("NA", "null", "good")]
    data = on(write(tmp_path, "csv", train=table, validation=table)).prepare()
    assert len(data.train) == 3
    assert texts(data.train)[2] == "good"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("closing", ['"my {} was', 'my {} was"'])
def test_lines_of_a_tsv_file_that_a_quote_joins_are_named(
    tmp_path: Path, closing: str, end: str
) -> None:
    lines = ["id\ttext\tlabel", *(f"{i}\tthe {i} was\t{'ab'[i % 2]}" for i in range(20))]
    lines[5] = lines[5].replace("the", '"the ""best""')
    lines[8] = f"7\t{closing.format(7)}\tb"
    (tmp_path / "train.tsv").write_text(end.join(lines) + end, newline="")
    assert refusal(on(str(tmp_path)), "prepare") == (
        f"dataset='{tmp_path}': {tmp_path}/train.tsv, line 6: read as one row with the next 3"
        ' lines, since a value begins with a " here and ends at the next one (1 such row); put such'
        ' values between " and double each " in them, or use jsonl or parquet'
    )


@pytest.mark.parametrize(("kind", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_quoted_text_may_have_line_breaks_and_separators(
    tmp_path: Path, kind: str, separator: str
) -> None:
    import pandas

    text = f'the{separator}food{separator}was\n\nfine and\nmy service was "bad"'
    table = pandas.DataFrame([{"text": text, "label": label} for label in "ab"])
    for split in ("train", "validation"):
        table.to_csv(tmp_path / f"{split}.{kind}", sep=separator, index=False)
    assert len(on(str(tmp_path)).prepare().train) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["a", None],
            "label_column='label': the train split has rows without a label; remove them",
        ),
        ([0.5, 1.0], "label_column='label': contains float64, for example 0.5; a class must be a"
         " name or an integer"),
        ([["a"], ["b"]], "label_column='label': contains lists of string, for example ['a']; a"
         " row must have one class"),
        (["a", "a"], "label_column='label': all train rows have the label 'a'; classification "
         "needs at least two classes"),
    ],
)  # fmt: skip
def test_columns_that_hold_no_classes_are_refused(
    tmp_path: Path, labels: list[Any], message: str
) -> None:
    dataset = write(tmp_path, train=rows(6, labels), validation=rows(4, labels))
    assert refusal(on(dataset), "prepare") == message


def test_labels_of_two_kinds_are_refused_with_an_example_of_each(tmp_path: Path) -> None:
    lines = "".join(f"{json.dumps(row)}\n" for row in rows(6, ["a", 1]))
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(lines)
    message = refusal(on(str(tmp_path)), "prepare")
    assert message == (
        "label_column='label': contains int and str, for example 1 and 'a'; the classes must be"
        " either all names or all integers"
    )


def test_whole_numbers_written_as_fractions_are_classes_and_said(tmp_path: Path) -> None:
    dataset = write(tmp_path, train=rows(6, [1.0, 0.0]), validation=rows(4, [1.0, 0.0]))
    told: list[str] = []
    with prepared_in(tmp_path / "prepared", told.append):
        data = on(dataset).prepare()
        on(dataset, max_tokens=9).prepare()
    assert (data.label_names, data.train["labels"][:2]) == (("0", "1"), [1, 0])
    line = "label_column='label': floats such as 1.0 are read as integers"
    assert told.count(line) == 1


@pytest.mark.parametrize("copied", [0, 2])
def test_eval_rows_that_stand_in_train_are_counted(copied: int, tmp_path: Path) -> None:
    labels = ["bad", "good"]
    train = [{"text": f"the {i} is fine", "label": labels[i % 2]} for i in range(8)]
    own = [{"text": f"my {i} is fine", "label": labels[i % 2]} for i in range(4 - copied)]
    dataset = write(tmp_path, train=train, validation=[*own, *train[:copied]])
    said = (
        "2 of 4 eval rows are word-for-word copies of train rows, so their scores say little about"
        " unseen text"
    )
    for run in ("the first", "one that finds the rows prepared"):
        told: list[str] = []
        with prepared_in(tmp_path / "prepared", told.append):
            on(dataset).prepare()
        assert [line for line in told if "word-for-word" in line] == [said][: copied // 2], run


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_split_without_rows_is_named(ending: str, tmp_path: Path) -> None:
    dataset = write(tmp_path, ending, train=rows(6), validation=rows(1))
    file = tmp_path / f"validation.{ending}"
    if ending == "parquet":
        table = parquet.read_table(file)
        parquet.write_table(table.slice(0, 0), file)
    else:
        file.write_text("text,label\n" if ending == "csv" else "")
    message = f"TextClassification: dataset={dataset!r}: no rows in validation"
    assert refusal(on(dataset), "check") == message
    file.write_text("") if ending == "csv" else None
    assert refusal(on(dataset), "check") == message


@pytest.mark.parametrize(
    "name", ["data/train.parquet", "data/my_train.csv", "model/model.safetensors", "saved"]
)
def test_a_file_that_git_lfs_has_not_fetched_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    shutil.copytree(TINY / "model", tmp_path / "model")
    file, dataset = tmp_path / name, str(tmp_path / "data")
    if name == "saved":
        dataset = write(file, "save_to_disk", train=rows(20))
        (file,) = (file / "train").glob("*.arrow")
    file.parent.mkdir(exist_ok=True)
    file.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    if name.startswith("model"):
        write(tmp_path / "data", train=rows(20))
    assert refusal(on(dataset, model=str(tmp_path / "model"))) == (
        f"TextClassification: {file}: this is a Git LFS pointer, not the data; run `git lfs pull`"
        " in its repository"
    )


@pytest.mark.parametrize("name", ["tf_model.h5", "pytorch_model.bin", "consolidated.safetensors"])
def test_a_file_that_is_not_loaded_need_not_be_fetched(tmp_path: Path, name: str) -> None:
    shutil.copytree(TINY / "model", tmp_path / "model")
    (tmp_path / "model" / name).write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    on(write(tmp_path / "data", train=rows(20)), model=str(tmp_path / "model")).check()


@pytest.mark.parametrize(
    ("name", "what"),
    [("tokenizer.json", "cannot be read"), ("model.safetensors", "its weights cannot be read")],
)
def test_a_file_of_the_model_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    model = shutil.copytree(TINY / "model", tmp_path / "model")
    opened = Path.open

    def denied(path: Path, *args: Any, **given: Any) -> Any:
        if path == model / name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **given)

    monkeypatch.setattr(Path, "open", denied)
    assert refusal(on(write(tmp_path / "data", train=rows(20)), model=str(model))) == (
        f"TextClassification: model='{model}': {what} ([Errno 13] Permission denied:"
        f" '{model / name}')"
    )


def test_splits_that_name_their_classes_differently_are_refused(tmp_path: Path) -> None:
    """The same number would mean another class."""
    from datasets import ClassLabel, Dataset, DatasetDict

    table = Dataset.from_list([dict(row) for row in rows(6, (0, 1))])
    named = {
        split: table.cast_column("label", ClassLabel(names=names))
        for split, names in (("train", ["bad", "good"]), ("validation", ["good", "bad"]))
    }
    DatasetDict(named).save_to_disk(tmp_path)
    message = refusal(on(str(tmp_path)), "prepare")
    assert message.startswith(
        "label_column='label': the labels have different types in train and validation (ClassLabel("
    )


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
@pytest.mark.parametrize("wider", ["train", "validation"])
def test_a_split_may_have_columns_of_its_own(tmp_path: Path, kind: str, wider: str) -> None:
    tables = {"train": rows(6), "validation": rows(4)}
    tables[wider] = [{"id": index, **row} for index, row in enumerate(tables[wider])]
    data = on(write(tmp_path, kind, **tables)).prepare()
    assert (len(data.train), len(data.eval)) == (6, 4)


@pytest.mark.parametrize(
    ("train", "validation"),
    [([0, 1], ["1", "0"]), (["0", "1"], [1, 0]), ([0.0, 1.0], ["1", "0"]), (["0", "1"], [1.0, 0])],
)
def test_a_label_is_the_same_whatever_its_type(
    tmp_path: Path, train: list[Any], validation: list[Any]
) -> None:
    dataset = write(tmp_path, "jsonl", train=rows(6, train), validation=rows(4, validation))
    data = on(dataset).prepare()
    assert data.label_names == ("0", "1")
    assert (data.train["labels"][:2], data.eval["labels"][:2]) == ([0, 1], [1, 0])


def test_types_of_labels_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    dataset = write(tmp_path, "jsonl", train=rows(6), validation=rows(4, [["bad"]]))
    assert refusal(on(dataset), "prepare") == (
        "label_column='label': the labels have different types in train and validation"
        " (Value('string') and List(Value('string'))); give both the same type"
    )


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
@pytest.mark.parametrize("labels", [[0, 1, None], ["bad", "good", None]])
def test_eval_rows_without_a_label_are_refused(
    tmp_path: Path, kind: str, labels: list[Any]
) -> None:
    dataset = write(tmp_path, kind, train=rows(6, labels[:2]), validation=rows(3, labels))
    assert refusal(on(dataset), "prepare") == (
        "label_column='label': the eval rows include rows without a label; remove them"
    )


def test_rows_that_a_class_label_marks_as_without_one_are_refused(tmp_path: Path) -> None:
    """As the test splits of GLUE have them: -1."""
    from datasets import ClassLabel, Dataset, DatasetDict

    table = Dataset.from_list([dict(row) for row in rows(6, (0, 1, -1))])
    named = table.cast_column("label", ClassLabel(names=["bad", "good"]))
    DatasetDict(train=named).save_to_disk(tmp_path)
    message = refusal(on(str(tmp_path), eval_rows=2), "prepare")
    assert message == "label_column='label': the train split has rows without a label; remove them"


def test_a_label_that_does_not_occur_in_train_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = write(tmp_path, train=rows(6), validation=rows(6, ["bad", "good", "odd"]))
    assert refusal(on(dataset), "prepare") == (
        "label_column='label': the eval rows contain labels that occur in none of the 6 train"
        " rows: 'odd'; use more train rows, or drop these eval rows"
    )


def test_rows_without_text_are_refused(tmp_path: Path) -> None:
    table = [*rows(6), {"text": None, "label": "bad"}]
    dataset = write(tmp_path, train=table, validation=rows(2))
    assert refusal(on(dataset), "prepare") == (
        "TextClassification: text_column='text': train has 1 row without text; remove such rows"
    )


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "save_to_disk"])
def test_a_missing_text_is_refused_in_files_of_every_kind(kind: str, tmp_path: Path) -> None:
    table = [*rows(6), {"text": None, "label": "bad"}, {"text": "", "label": "bad"}]
    table += [{"text": " \u3000", "label": "bad"}]
    dataset = write(tmp_path, kind, train=rows(4), validation=table)
    assert refusal(on(dataset), "prepare") == (
        "TextClassification: text_column='text': validation has 3 rows without text; remove such"
        " rows"
    )


def test_a_blank_text_of_a_hub_dataset_stays_as_nobody_can_remove_it(tmp_path: Path) -> None:
    from datasets import Dataset

    tables: dict[Split, Dataset] = {"train": Dataset.from_dict({"text": ["", "good"]})}
    assert list(HUB._column_problems(tables)) == []
    (said,) = on(str(tmp_path))._column_problems(tables)
    assert "has 1 row without text" in said


def test_held_out_rows_are_the_same_whatever_is_trained_on() -> None:
    from datasets import Dataset

    splits: dict[Split, Dataset] = {"train": Dataset.from_list([{"row": row} for row in range(40)])}

    def chosen(train_rows: int | None, eval_rows: int | None) -> tuple[list[int], list[int]]:
        train, evaluation = choose_rows(splits, train_rows, eval_rows)
        return train["row"][:], evaluation["row"][:]

    train, evaluation = chosen(None, 8)
    assert sorted(train + evaluation) == list(range(40))
    assert evaluation != list(range(8))  # drawn from all over the split
    few, same = chosen(10, 8)
    assert same == evaluation
    assert len(few) == 10
    assert set(few) < set(train)
    assert len(chosen(None, None)[1]) == 4  # a tenth
    assert len(chosen(1000, 8)[0]) == 32


def test_with_a_validation_split_no_train_row_is_held_out() -> None:
    from datasets import Dataset

    splits: dict[Split, Dataset] = {
        "train": Dataset.from_list([{"row": row} for row in range(10)]),
        "validation": Dataset.from_list([{"row": row} for row in range(100, 110)]),
    }
    train, evaluation = choose_rows(splits, None, 4)
    assert train["row"][:] == list(range(10))
    assert len(evaluation) == 4
    assert set(evaluation["row"][:]) < set(range(100, 110))


@pytest.mark.parametrize(
    ("kind", "others", "unread"),
    [
        ("csv", ["dev_matched", "test"], "dev_matched.csv, test.csv"),
        ("jsonl", ["validation-1"], "validation-1.jsonl"),
        ("csv", ["data/my_dev"], "data/my_dev.csv"),
        ("csv", ["valid_set/one"], "valid_set/one.csv"),
        ("save_to_disk", ["eval", "test"], "eval, test"),
        ("csv", [], None),
    ],
    ids=str,
)
def test_rows_that_are_held_out_and_what_is_not_read_are_said(
    kind: str, others: list[str], unread: str | None, tmp_path: Path
) -> None:
    if kind == "save_to_disk":
        write(tmp_path / "data", kind, train=rows(40), **{name: rows(9) for name in others})
    for name in ["train", *others] if kind != "save_to_disk" else ():
        path = tmp_path / "data" / name
        write(path.parent, kind, **{path.name: rows(40 if name == "train" else 9)})
    ending = f"; not read: {unread}" if unread else ""
    said = f"no validation split: 4 of the 40 train rows are held out for evaluation{ending}"
    for run in ("the first", "one that finds the rows prepared"):
        told: list[str] = []
        with prepared_in(tmp_path / "prepared", told.append):
            on(str(tmp_path / "data")).prepare()
        assert [line for line in told if "held out" in line] == [said], run


def test_a_file_that_comes_later_and_is_not_read_is_said_as_well(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", "csv", train=rows(40))
    for unread in ("", "; not read: dev_matched.csv"):
        told: list[str] = []
        with prepared_in(tmp_path / "prepared", told.append):
            on(dataset).prepare()
        (said,) = [line for line in told if "held out" in line]
        assert said.endswith(f"for evaluation{unread}")
        write(tmp_path / "data", "csv", dev_matched=rows(9))


def test_files_in_folders_below_data_are_read(tmp_path: Path) -> None:
    write(tmp_path / "data", "csv", train=rows(40))
    write(tmp_path / "data" / "validation", "csv", x=rows(9))
    on(str(tmp_path)).check()
    assert on(str(tmp_path)).count_rows() == (40, 9)


def test_of_two_validation_splits_that_of_the_usual_name_is_read(tmp_path: Path) -> None:
    dataset = write(
        tmp_path, "save_to_disk", train=rows(9), validation=rows(4), dev=rows(5, word="room")
    )
    assert texts(on(dataset).prepare().eval) == ["the food was fine"] * 4


@pytest.mark.parametrize("max_tokens", [8, 6])
def test_texts_are_cut_at_max_tokens(max_tokens: int) -> None:
    data = dataclasses.replace(HUB.tiny(), max_tokens=max_tokens).prepare()
    assert max(len(row) for row in data.train["input_ids"]) == max_tokens
    assert data.tokenizer.decode(data.train[0]["input_ids"]).endswith("[SEP]")


def test_equal_settings_are_prepared_once_in_a_process() -> None:
    first, again = HUB.tiny().prepare(), dataclasses.replace(HUB.tiny()).prepare()
    assert again.train.cache_files == first.train.cache_files
    assert again.tokenizer.backend_tokenizer is first.tokenizer.backend_tokenizer
    other = dataclasses.replace(HUB.tiny(), max_tokens=9).prepare()
    assert other.train.cache_files != first.train.cache_files


def _prepare(folder: Path, together: Any, told: Any) -> None:
    batches, tokenise = [], PreTrainedTokenizerBase.__call__
    PreTrainedTokenizerBase.__call__ = lambda *args, **options: (
        batches.append(1) or tokenise(*args, **options)
    )
    together.wait()
    with prepared_in(folder):
        data = HUB.tiny().prepare()
    rows = data.train["input_ids"]
    told.put((len(batches), len(rows), sum(map(sum, rows)), data.train.cache_files))


def test_of_processes_that_prepare_at_once_one_tokenises_for_all(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    together, told = fork.Barrier(2), fork.SimpleQueue()
    workers = [fork.Process(target=_prepare, args=(tmp_path, together, told)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    waited, made = sorted(told.get() for _ in workers)
    assert waited[:2] == (0, 512)
    assert made[:2] == (2, 512)  # a batch of train rows, and one of eval rows
    assert waited[1:] == made[1:]
    assert len(list(tmp_path.glob("*/*.arrow"))) == 2
    assert not list(tmp_path.glob("*.partial"))


def test_a_hub_data_set_prepared_before_is_used_without_the_hub() -> None:
    import datasets

    table = datasets.Dataset.from_list(list(map(dict, rows(20))))
    cache = Path(datasets.config.HF_DATASETS_CACHE, "acme___my_reviews", "default", "0.0.0", "abc")
    cache.mkdir(parents=True)
    splits = datasets.SplitDict()
    for name in ("train", "test"):
        writer = datasets.arrow_writer.ArrowWriter(path=str(cache / f"my_reviews-{name}.arrow"))
        writer.write_table(table.data.table)
        writer.finalize()
        splits.add(datasets.SplitInfo(name, num_examples=20, dataset_name="my_reviews"))
    (cache / "my_reviews-test.arrow").write_bytes(b"damaged")
    info = datasets.DatasetInfo(
        features=table.features,
        splits=splits,
        builder_name="parquet",
        dataset_name="my_reviews",
        config_name="default",
        version="0.0.0",
    )
    info.write_to_directory(str(cache))
    builder = on("acme/MyReviews", eval_rows=5)
    builder.check()
    assert (len(builder.prepare().train), len(builder.prepare().eval)) == (15, 5)
    assert "eval_rows=20" in refusal(on("acme/MyReviews", eval_rows=20))
    assert "no such column in train (found: text, label)" in refusal(
        on("acme/MyReviews", text_column="body")
    )


# What its Trainer does


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads on busy cores wait for each other: seen 100 s for what takes 2."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arguments(tmp_path: Path, **fields: Any) -> Any:
    from transformers import TrainingArguments

    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 2,
        "weight_decay": 0.01,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 17,
    }
    return TrainingArguments(**(settings | fields))


def trainer_for(tmp_path: Path, builder: TextClassification, **fields: Any) -> Any:
    from transformers import set_seed

    args = arguments(tmp_path, **fields)
    set_seed(args.seed)
    return builder(args, data=builder.prepare())


def without_dropout(tmp_path: Path) -> TextClassification:
    shutil.copytree(TINY / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(config))
    return dataclasses.replace(HUB.tiny(), model=str(tmp_path / "model"))


@pytest.mark.usefixtures("one_thread")
def test_training_moves_every_parameter_and_learns(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, HUB.tiny())
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    untrained = trainer.evaluate()
    trainer.train()
    trained = trainer.evaluate()
    still = [name for name, value in trainer.model.named_parameters() if value.equal(before[name])]
    assert still == []
    assert all(value.requires_grad for value in trainer.model.parameters())
    assert trained["eval_loss"] < untrained["eval_loss"]
    assert 0.8 < trained["eval_accuracy"] < 1.0
    assert 0.8 < trained["eval_f1"] < 1.0


@pytest.mark.usefixtures("one_thread")
def test_the_learning_rate_makes_a_clear_difference(tmp_path: Path) -> None:
    accuracy = {}
    for rate in (1e-5, 1e-4):
        trainer = trainer_for(tmp_path, HUB.tiny(), learning_rate=rate)
        trainer.train()
        accuracy[rate] = trainer.evaluate()["eval_accuracy"]
    assert accuracy[1e-4] > accuracy[1e-5] + 0.1


@pytest.mark.usefixtures("one_thread")
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


@pytest.mark.usefixtures("one_thread")
def test_metrics_are_those_of_the_raw_logits(tmp_path: Path) -> None:
    import torch

    trainer = trainer_for(tmp_path, without_dropout(tmp_path), learning_rate=3e-5, max_steps=20)
    trainer.train()
    measured = trainer.evaluate()
    data, model = HUB.tiny().prepare(), trainer.model.eval()
    batch = trainer.data_collator([data.eval[row] for row in range(len(data.eval))])
    with torch.no_grad():
        output = model(**batch)
    right = (output.logits.argmax(dim=-1) == batch["labels"]).float().mean().item()
    assert measured["eval_accuracy"] == pytest.approx(right)
    assert measured["eval_loss"] == pytest.approx(output.loss.item(), rel=1e-5)


@pytest.mark.usefixtures("one_thread")
def test_the_evaluation_is_a_mean_over_rows_whatever_the_batch_size(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, HUB.tiny(), max_steps=4)
    trainer.train()
    losses = []
    for batch in (1, 7, 256):
        trainer.args.per_device_eval_batch_size = batch
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_the_mean_over_rows_takes_the_place_of_hfs_loss() -> None:
    import numpy as np
    from transformers import EvalPrediction

    from sweeps.builders.text_classification import _compute_metrics

    judged = (np.array([0, 1]), np.array([0.5, 1.5]))
    told = _compute_metrics(EvalPrediction(judged, np.array([0, 0])))
    assert set(told) == set(TextClassification.metric_names)
    assert (told["loss"], told["accuracy"]) == (1.0, 0.5)


@pytest.mark.usefixtures("one_thread")
def test_the_saved_model_names_its_classes_and_loads_on_its_own(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    trainer = trainer_for(tmp_path, HUB.tiny(), max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert model.config.id2label[4] == "5 stars"
    assert model.config.problem_type == "single_label_classification"
    words = AutoTokenizer.from_pretrained(tmp_path / "saved")(
        "the food was great", return_tensors="pt"
    )
    assert tuple(model(**words).logits.shape) == (1, 5)


@pytest.mark.usefixtures("one_thread")
def test_a_head_for_other_classes_is_drawn_anew(tmp_path: Path) -> None:
    trainer_for(tmp_path, HUB.tiny()).save_model(str(tmp_path / "five"))
    dataset = write(tmp_path / "data", train=rows(20), validation=rows(4))
    trainer = trainer_for(tmp_path, on(dataset, model=str(tmp_path / "five")), max_steps=1)
    trainer.train()
    assert trainer.model.config.id2label == {0: "bad", 1: "good"}


@pytest.mark.usefixtures("one_thread")
def test_weights_saved_in_half_precision_are_trained_in_full(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    shutil.copytree(TINY / "model", tmp_path / "half")
    AutoModel.from_pretrained(TINY / "model", dtype=torch.bfloat16).save_pretrained(
        tmp_path / "half"
    )
    trainer = trainer_for(tmp_path, dataclasses.replace(HUB.tiny(), model=str(tmp_path / "half")))
    assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}


@pytest.mark.usefixtures("one_thread")
def test_a_decoder_without_padding_token_trains(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2Model

    tokenizer = AutoTokenizer.from_pretrained(TINY / "model", pad_token=None, eos_token="[SEP]")
    tokenizer.save_pretrained(tmp_path / "gpt")
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2Model(config).save_pretrained(tmp_path / "gpt")
    builder = dataclasses.replace(HUB.tiny(), model=str(tmp_path / "gpt"), max_tokens=64)
    builder.check()
    trainer = trainer_for(tmp_path, builder, max_steps=2)
    untrained = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] != untrained


@pytest.mark.usefixtures("one_thread")
def test_a_batch_is_padded_to_its_own_longest_row(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, HUB.tiny())
    lengths = set()
    for batch in trainer.get_train_dataloader():
        assert batch["attention_mask"].sum(dim=1).max() == batch["input_ids"].shape[1]
        lengths.add(batch["input_ids"].shape[1])
    assert len(lengths) > 1


@pytest.mark.usefixtures("one_thread")
def test_rows_of_like_length_can_be_batched_together(tmp_path: Path) -> None:
    def padding(strategy: str) -> int:
        trainer = trainer_for(tmp_path, HUB.tiny(), train_sampling_strategy=strategy)
        batches = list(trainer.get_train_dataloader())
        assert sum(len(batch["labels"]) for batch in batches) == 512
        return sum(int((batch["attention_mask"] == 0).sum()) for batch in batches)

    assert padding("group_by_length") < padding("random") / 3


# The shipped data


def test_the_shipped_rows_are_those_that_the_script_generates() -> None:
    import importlib.util
    import random

    from datasets import Dataset

    script = Path(__file__).parents[2] / "scripts" / "make_tiny.py"
    spec = importlib.util.spec_from_file_location("make_tiny", script)
    assert spec is not None
    assert spec.loader is not None
    make_tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tiny)
    rng = random.Random(make_tiny.SEED)
    for split, count in (("train", make_tiny.TRAIN_ROWS), ("validation", make_tiny.EVAL_ROWS)):
        shipped = Dataset.from_parquet(str(TINY / "dataset" / f"{split}.parquet"))
        assert shipped.to_list() == make_tiny.rows(count, rng).to_list()
        assert not any("[UNK]" in text for text in texts(HUB.tiny().prepare().train))
