"""Generates the tiny models and data set that `--tiny` uses in place of the real ones.

Run `python scripts/make_tiny.py` by hand after a change here; the result is committed as package
data in `sweeps/builders/tiny/`. It needs torch, transformers and datasets, but nothing from
`sweeps`.

The reviews are drawn from a grammar. Every clause praises or criticises one thing. The stars are
the rounded mean of the clauses, and one label in ten is moved to a neighbouring class, so that no
model can be right everywhere. The encoder is trained on the rule and saved without its
classification head: like a real pretrained model, it can be fine-tuned within a few dozen steps.
The decoder is trained on some reviews, too, and saved long before it has learnt everything.

In the tagged sentences, meals, dishes and staff are entities. A meal before a dish or a person
belongs to that entity, so a tag depends on the next word; one entity in ten has another type.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import shutil
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    set_seed,
)

TINY = Path(__file__).resolve().parents[1] / "sweeps" / "builders" / "tiny"

MODELS = ("model", "causal_model", "tagging_model")

SEED = 20
TRAIN_ROWS, EVAL_ROWS = 512, 256
DECODER_POSITIONS = 64
LABEL_NOISE = 0.1  # fraction of labels moved to a neighbouring class
PRETRAINING_STEPS, PRETRAINING_ROWS = 1500, 64
TAGGER_SCALE = 20
READING_STEPS, READING_ROWS = 80, 32

STARS = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]
SUBJECTS = [
    *("food", "service", "waiter", "staff", "room", "coffee", "pizza", "soup", "salad", "bread"),
    *("music", "price", "place", "view", "dessert", "burger", "breakfast", "lunch", "dinner"),
]
OWNERS, VERBS = ["the", "our", "my", "this"], ["was", "is"]
PRAISE = {
    -2: ["terrible", "awful", "horrible", "disgusting", "rude", "worst"],
    -1: ["bad", "cold", "slow", "bland", "dirty", "noisy"],
    0: ["okay", "average", "fine", "normal", "usual", "acceptable"],
    1: ["good", "nice", "friendly", "fresh", "tasty", "clean"],
    2: ["great", "amazing", "excellent", "perfect", "wonderful", "best"],
}
ENTITIES = {
    "DISH": ["coffee", "pizza", "soup", "salad", "bread", "dessert", "burger"],
    "STAFF": ["waiter", "staff"],
    "MEAL": ["breakfast", "lunch", "dinner"],
}
TAGS = ["O", *(f"{prefix}-{kind}" for kind in ENTITIES for prefix in "BI")]
FILLERS = ["really", "just", "simply", "again", "today", "honestly", "always", "here"]
OTHERS = ["and", "but", "i", "we", "it", "a", "are", "were", "with"]  # for texts that users type in
MARKS = [".", ",", "!"]


def review(stars: int, rng: random.Random) -> str:
    """Return a review of two to four clauses whose rounded mean praise is `stars`, 0 to 4."""
    while True:
        praise = [
            min(2, max(-2, stars - 2 + rng.choice([-2, -1, 0, 0, 1, 2])))
            for _ in range(rng.randint(2, 4))
        ]
        if round(sum(praise) / len(praise)) == stars - 2:
            return " ".join(_clause(value, rng) for value in praise)


def _clause(praise: int, rng: random.Random) -> str:
    words = [rng.choice(OWNERS), rng.choice(SUBJECTS), rng.choice(VERBS)]
    if rng.random() < 0.3:
        words.append(rng.choice(FILLERS))
    words.append(rng.choice(PRAISE[praise]))
    return " ".join(words) + rng.choice(MARKS)


def rows(count: int, rng: random.Random) -> Dataset:
    """Return `count` shuffled reviews with equal shares of classes and noisy labels."""
    stars = [index % len(STARS) for index in range(count)]
    rng.shuffle(stars)
    texts = [review(star, rng) for star in stars]
    labels = [
        rng.choice([n for n in (star - 1, star + 1) if 0 <= n < len(STARS)])
        if rng.random() < LABEL_NOISE
        else star
        for star in stars
    ]
    features = Features({"text": Value("string"), "label": ClassLabel(names=STARS)})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def tagged(rng: random.Random, noise: float = LABEL_NOISE) -> tuple[list[str], list[str]]:
    """Return the words and tags of one to three clauses."""
    words: list[str] = []
    tags: list[str] = []
    for _ in range(rng.randint(1, 3)):
        clause = re.findall(r"\w+|[.,!]", _clause(rng.randint(-2, 2), rng))
        kind = next((kind for kind, subjects in ENTITIES.items() if clause[1] in subjects), None)
        entity = [clause[1]]
        if kind in ("DISH", "STAFF") and rng.random() < 0.5:
            entity.insert(0, rng.choice(ENTITIES["MEAL"]))
        if kind is not None and rng.random() < noise:
            kind = rng.choice([other for other in ENTITIES if other != kind])
        words += [clause[0], *entity, *clause[2:]]
        inside = [f"I-{kind}"] * (len(entity) - 1)
        tags += ["O", *(["O"] if kind is None else [f"B-{kind}", *inside])]
        tags += ["O"] * (len(clause) - 2)
    return words, tags


def tagged_rows(count: int, rng: random.Random) -> Dataset:
    """Return `count` tagged sentences, in CoNLL's columns."""
    tag = ClassLabel(names=TAGS)
    features = Features({"tokens": List(Value("string")), "ner_tags": List(tag)})
    tokens, tags = zip(*(tagged(rng) for _ in range(count)), strict=True)
    return Dataset.from_dict({"tokens": tokens, "ner_tags": tags}, features=features)


def vocabulary(*special: str) -> dict[str, int]:
    """Return the ids of special tokens and of all words of the grammar."""
    words = [*special, *MARKS, *OWNERS, *VERBS, *OTHERS]
    words += [*SUBJECTS, *FILLERS, *itertools.chain.from_iterable(PRAISE.values())]
    return {word: index for index, word in enumerate(words)}


def make_tokenizer() -> BertTokenizer:
    """Return a tokenizer of whole words; anything else is the unknown token."""
    vocab = vocabulary("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return BertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=512)


def make_decoder_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the same words with an end-of-text token but no padding, as GPT-2's."""
    words = Tokenizer(models.WordLevel(vocabulary("<|endoftext|>", "[UNK]"), unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        eos_token="<|endoftext|>",
        model_max_length=DECODER_POSITIONS,
    )


def make_decoder(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> GPT2LMHeadModel:
    """Return a decoder trained on 2,560 reviews."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=DECODER_POSITIONS,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(READING_STEPS):
        texts = [review(rng.randrange(len(STARS)), rng) for _ in range(READING_ROWS)]
        tokens = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts)["input_ids"]]
        stream = list(itertools.chain.from_iterable(tokens))
        blocks = torch.tensor(stream[: len(stream) // 32 * 32]).view(-1, 32)
        loss = model(input_ids=blocks, labels=blocks).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"final loss of the decoder: {loss.item():.3f}")
    return model


def encoder_config(tokenizer: BertTokenizer) -> BertConfig:
    """Return the shape of both encoders."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,  # as in real models, so that a tuned max_tokens also fits
        initializer_range=0.1,
    )


def make_tagger(tokenizer: BertTokenizer, rng: random.Random) -> BertModel:
    """Return an encoder whose last hidden states separate the tags linearly."""
    model = BertModel(encoder_config(tokenizer), add_pooling_layer=False)
    head = torch.nn.Linear(model.config.hidden_size, len(TAGS))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, PRETRAINING_STEPS)
    for _ in range(PRETRAINING_STEPS):
        words, tags = zip(*(tagged(rng, noise=0) for _ in range(PRETRAINING_ROWS)), strict=True)
        batch = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
        labels = torch.full(batch["input_ids"].shape, -100)
        for row, of_row in zip(labels, tags, strict=True):  # each word is one token, after [CLS]
            row[1 : len(of_row) + 1] = torch.tensor([TAGS.index(tag) for tag in of_row])
        logits = head(model(**batch).last_hidden_state)
        loss = cross_entropy(logits.transpose(1, 2), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"loss at the end of tagging: {loss.item():.3f}")
    # Large hidden states, so that a head learns at the learning rates of real models.
    last = model.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight.mul_(TAGGER_SCALE)
        last.bias.mul_(TAGGER_SCALE)
    model.config.initializer_range = 0.001
    return model


def make_model(tokenizer: BertTokenizer, rng: random.Random) -> BertModel:
    """Return an encoder whose pooled output separates the stars linearly."""
    config = encoder_config(tokenizer)
    model = BertModel(config)
    head = torch.nn.Linear(config.hidden_size, len(STARS))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, PRETRAINING_STEPS)
    for _ in range(PRETRAINING_STEPS):
        stars = [rng.randrange(len(STARS)) for _ in range(PRETRAINING_ROWS)]
        batch = tokenizer([review(s, rng) for s in stars], padding=True, return_tensors="pt")
        loss = cross_entropy(head(model(**batch).pooler_output), torch.tensor(stars))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    print(f"final loss of the encoder: {loss.item():.3f}")
    # A new head starts near zero, so the learning rate decides how much a trial learns.
    model.config.initializer_range = 0.001
    return model


def main() -> None:
    """Write the models and the data set again."""
    parser = argparse.ArgumentParser(description="Regenerate the tiny model and data set.")
    parser.add_argument("--out", type=Path, default=TINY, help="folder for models and data set")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # the same bits on any number of cores
    set_seed(SEED)
    rng = random.Random(SEED)
    for folder in (*MODELS, "dataset", "entities"):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir(parents=True)
    rows(TRAIN_ROWS, rng).to_parquet(out / "dataset" / "train.parquet")
    rows(EVAL_ROWS, rng).to_parquet(out / "dataset" / "validation.parquet")
    tagging = random.Random(SEED)
    tagged_rows(TRAIN_ROWS, tagging).to_parquet(out / "entities" / "train.parquet")
    tagged_rows(EVAL_ROWS, tagging).to_parquet(out / "entities" / "validation.parquet")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(out / "model")
    make_model(tokenizer, rng).save_pretrained(out / "model")
    decoder_tokenizer = make_decoder_tokenizer()
    decoder_tokenizer.save_pretrained(out / "causal_model")
    make_decoder(decoder_tokenizer, rng).save_pretrained(out / "causal_model")
    tokenizer.save_pretrained(out / "tagging_model")
    make_tagger(tokenizer, tagging).save_pretrained(out / "tagging_model")
    for model in MODELS:
        (out / model / "model.safetensors").chmod(0o644)  # safetensors 0.8: owner only


if __name__ == "__main__":
    main()
