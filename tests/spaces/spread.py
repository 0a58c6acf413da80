"""A space with a helper module beside it, `curves`; it counts the nodes that a group stands on.

Its trials wait in the middle of their steps until somebody writes to the pipe in HF_SWEEPS_HOLD,
and have as many steps as HF_SWEEPS_STEPS says.
"""

import os

import ray
import torch
import torch.distributed as dist
from curves import STEPS, CurveTrainer, OneWeight
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace


class HeldTrainer(CurveTrainer):
    steps_here = 0

    def training_step(self, *args, **kwargs):
        self.steps_here += 1
        middle = self.state.global_step == self.state.max_steps // 2
        if middle and (hold := os.environ.get("HF_SWEEPS_HOLD")):
            with open(hold):  # opens once there is a writer
                pass
        return super().training_step(*args, **kwargs)


def build(args: TrainingArguments, *, height: float = 0.5) -> Trainer:
    """Fails where the variable of the test has not arrived."""
    assert os.environ["HF_SWEEPS_TEST"] == "passed on"
    nodes: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(nodes, ray.get_runtime_context().get_node_id())

    def curve(progress: float) -> dict[str, float]:
        value = height * progress
        return {
            "eval_score": value,
            "eval_loss": 1.0 - value,
            "eval_nodes": len(set(nodes)),
            "eval_steps_here": trainer.steps_here,
        }

    steps = int(os.environ.get("HF_SWEEPS_STEPS", STEPS))
    rows = [{"x": torch.ones(1)} for _ in range(steps * args.train_batch_size * args.world_size)]
    trainer = HeldTrainer(
        curve, model=OneWeight(height), args=args, train_dataset=rows, eval_dataset=rows[:10]
    )
    return trainer


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"height": tune.uniform(0.0, 1.0)},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 2},
    evals_per_trial=2,
)
