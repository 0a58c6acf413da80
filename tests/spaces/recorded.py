"""The tiny classifier, which writes down the rows that each rank trains on, or trains on such."""

import json
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch.distributed as dist
from ray import tune
from torch.utils.data import Dataset
from transformers import Trainer

from sweeps import SearchSpace, TextClassification


class Replay(Dataset):
    """Rows of a mapped dataset, in the order of each epoch."""

    def __init__(self, rows, orders: list[list[int]]):
        self.rows, self.orders, self.epoch = rows, orders, 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __len__(self):
        return len(self.orders[0])

    def __getitem__(self, place: int):
        return self.rows[self.orders[self.epoch][place]]


@dataclass(frozen=True, kw_only=True)
class Recorded(TextClassification):
    """`TextClassification` as it is, watched."""

    record: str = ""
    replay: str = ""
    """Folder of a record, whose first trial is trained again without Ray Data."""
    lap: int = 0

    def __call__(self, args, *, data) -> Trainer:
        rows = self.prepare().train
        if self.replay:
            data = replace(data, train=Replay(rows, orders(Path(self.replay), args.world_size)))
        trainer = super().__call__(args, data=data)
        numbers = {tuple(ids): number for number, ids in enumerate(rows["input_ids"])}
        rank = dist.get_rank() if dist.is_initialized() else 0
        file = Path(self.record) / f"{Path(args.output_dir).name}-{rank}.jsonl"
        step = trainer.training_step

        def recorded(model, inputs, *more):
            pairs = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
            trained = [numbers[tuple(ids[mask == 1].tolist())] for ids, mask in pairs]
            with open(file, "a") as lines:
                lines.write(json.dumps([int(trainer.state.epoch or 0), trained]) + os.linesep)
            return step(model, inputs, *more)

        trainer.training_step = recorded
        return trainer


def batches(record: Path, trial: str, rank: int) -> dict[int, list[list[int]]]:
    """The row numbers of each batch of one rank, by epoch."""
    found: dict[int, list[list[int]]] = defaultdict(list)
    for line in (record / f"{trial}-{rank}.jsonl").read_text().splitlines():
        epoch, rows = json.loads(line)
        found[epoch].append(rows)
    return found


def orders(record: Path, workers: int) -> list[list[int]]:
    """For each epoch, the rows so that HF, which deals out batches, gives each rank its own."""
    ranks = [batches(record, "t001", rank) for rank in range(workers)]
    return [
        [
            row
            for turn in zip(*(rank[epoch] for rank in ranks), strict=True)
            for b in turn
            for row in b
        ]
        for epoch in ranks[0]
    ]


SEARCH_SPACE = SearchSpace(
    build_trainer=replace(Recorded(model="-/-", dataset="-/-").tiny(), train_rows=57, eval_rows=32),
    metric="eval_loss",
    mode="min",
    tuned={"lap": tune.choice([1, 2, 3]), "max_steps": tune.choice([8, 3])},
    fixed={
        "learning_rate": 1e-2,
        "total_train_batch_size": 16,
        "max_rows_per_device": 4,
        "logging_steps": 1,
        "seed": 17,
    },
    # The second trial leaves its first epoch in the middle.
    first_params=[{"lap": n, "max_steps": 3 if n == 2 else 8} for n in (1, 2, 3)],
    evals_per_trial=2,
)
