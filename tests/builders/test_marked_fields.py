"""A field says once what it is: the key of prepared data, paths and checks follow from its mark."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sweeps import CausalLM, TextClassification, TokenClassification
from sweeps.builders.base import DATA, PATH, TINY, at_least
from sweeps.builders.data.prepared_data import prepared_in
from sweeps.builders.own_code import own_code
from sweeps.errors import UserError
from sweeps.space.adapted import Adapted


@dataclass(frozen=True, kw_only=True)
class Shouting(TextClassification):
    """A user's own: one field that `prepare` reads, one path, one that only training reads."""

    upper: bool = field(default=False, metadata=DATA)
    vectors: str = field(default="none", metadata=PATH)
    layers: int = field(default=1, metadata=at_least(1))

    def _encode(self, batch: Any, *others: Any, **options: Any) -> Any:
        texts = [text.upper() if self.upper else text for text in batch[self.text_column]]
        return super()._encode({**batch, self.text_column: texts}, *others, **options)


@dataclass(frozen=True, kw_only=True)
class Careless(TextClassification):
    """Forgets the mark."""

    upper: bool = False

    def _encode(self, batch: Any, *others: Any, **options: Any) -> Any:
        assert not self.upper
        return super()._encode(batch, *others, **options)


SHOUTING = Shouting(model="-/-", dataset="-/-", train_rows=20, eval_rows=20).tiny()


def key(builder: Any) -> str:
    return Path(builder.prepare().train.cache_files[0]["filename"]).parent.name


def test_a_new_field_that_is_marked_as_data_changes_the_key(tmp_path: Path) -> None:
    with prepared_in(tmp_path):
        keys = {key(SHOUTING), key(replace(SHOUTING, upper=True))}
        assert len(keys) == 2
        assert key(replace(SHOUTING, layers=2, vectors="other", stream=True)) in keys
        assert key(replace(TextClassification(model="-/-", dataset="-/-").tiny())) not in keys


def test_a_field_without_the_mark_cannot_be_read_to_prepare(tmp_path: Path) -> None:
    builder = Careless(model="-/-", dataset="-/-").tiny()
    with prepared_in(tmp_path), pytest.raises(AttributeError) as raised:
        builder.prepare()
    assert (
        str(raised.value)
        == "'upper' is read while preparing data; declare this field with metadata=DATA"
    )
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert builder.upper is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_rows", 30),
        ("eval_rows", 30),
        ("max_tokens", 9),
        ("block_tokens", 16),
        ("documents", False),
    ],
)
def test_what_prepared_rows_depend_on_changes_their_key(
    name: str, value: Any, tmp_path: Path
) -> None:
    kind = CausalLM if name in ("block_tokens", "documents") else TextClassification
    builder = kind(model="-/-", dataset="-/-").tiny()
    with prepared_in(tmp_path):
        assert key(builder) != key(replace(builder, **{name: value}))


def own_builder(folder: Path, old: str = "", new: str = "") -> Any:
    """A user's own builder, in files in which something was replaced."""
    folder.mkdir()
    (folder / "helper.py").write_text("LAST = '!'\n".replace(old, new, 1))
    (folder / "own.py").write_text(OWN_BUILDER.replace(old, new, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name in ("helper", "own"):
            sys.modules.pop(name, None)
        return importlib.import_module("own").Own


OWN_BUILDER = """
from dataclasses import dataclass
from pathlib import Path
import helper
from sweeps import TextClassification

FIRST = "> "
HERE = str(Path(__file__).parent)
CACHE = {}

def marked(text):
    assert Path(__file__).is_relative_to(HERE)
    return FIRST + text + helper.LAST

@dataclass(frozen=True, kw_only=True)
class Own(TextClassification):
    tokenizer_options = {"use_fast": True}
    dropout: float = 0.1

    def __call__(self, args, *, data):
        return None

    def _encode(self, batch, *others, **options):
        CACHE[len(CACHE)] = batch
        texts = [marked(text) for text in batch[self.text_column]]
        return super()._encode({**batch, self.text_column: texts}, *others, **options)
"""


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("", "", False),
        ("0.1", "0.2", False),
        ("return None", "return data", False),
        ("{}", "{7: 7}", False),
        ("FIRST + text", "text + FIRST", True),
        ('"> "', '"| "', True),
        ("marked(text) for", "marked(text.upper()) for", True),
        ("True}", "False}", True),
        ("'!'", "'?'", True),
    ],
    ids=[
        *("same", "default", "__call__", "cache"),
        *("function", "constant", "method", "options", "module"),
    ],
)
def test_the_users_own_code_is_in_the_key_as_far_as_it_may_prepare_rows(
    old: str, new: str, differs: bool, tmp_path: Path
) -> None:
    before = own_code(own_builder(tmp_path / "before"))
    assert before is not None
    assert (own_code(own_builder(tmp_path / "after", old, new)) != before) == differs


def test_rows_are_prepared_again_once_the_users_own_code_has_changed(tmp_path: Path) -> None:
    assert own_code(TextClassification) is None
    old, new = own_builder(tmp_path / "old"), own_builder(tmp_path / "new", '"> "', '"| "')
    with prepared_in(tmp_path / "prepared"):
        keys = [key(kind(model="-/-", dataset="-/-").tiny()) for kind in (old, old, new)]
    assert keys[0] == keys[1] != keys[2]


def test_only_the_tokenizer_of_a_model_is_in_the_key(tmp_path: Path) -> None:
    builder = TextClassification(model="-/-", dataset="-/-").tiny()
    (tmp_path / "model").mkdir()
    for file in (TINY / "model").iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    with prepared_in(tmp_path):
        assert key(replace(builder, model=str(tmp_path / "model"))) == key(builder)


def test_what_a_trial_changes_in_its_rows_and_tokenizer_stays_its_own(tmp_path: Path) -> None:
    with prepared_in(tmp_path):
        first = SHOUTING.prepare()
        first.tokenizer.padding_side = "left"
        first.train.set_transform(lambda batch: {"labels": [7] * len(batch["labels"])})
        first.eval.set_format("numpy")
        later = SHOUTING.prepare()
    assert later.tokenizer.padding_side == "right"
    assert later.train[0]["labels"] != 7
    assert isinstance(later.eval[0]["labels"], int)


def test_marks_give_the_members_of_the_contract() -> None:
    adapted = Adapted(SHOUTING)
    assert adapted.data_fields == {
        *("model", "dataset", "dataset_config", "train_rows", "eval_rows", "revisions"),
        *("max_tokens", "text_column", "label_column", "upper"),
    }
    assert adapted.path_fields == {"model", "dataset", "vectors"}
    tiny = adapted.tiny()
    assert tiny is not None
    assert isinstance(tiny.own, Shouting)


def test_a_marked_number_is_checked_and_named_with_its_builder() -> None:
    with pytest.raises(UserError) as raised:
        replace(SHOUTING, layers=0).check()
    assert str(raised.value) == "Shouting: layers=0: must be an integer of at least 1"


def test_every_field_of_a_column_is_read_to_prepare() -> None:
    for kind in (TextClassification, TokenClassification, CausalLM):
        marks = [each.metadata for each in dataclasses.fields(kind)]
        assert [each for each in marks if "column" in each and "data" not in each] == []
