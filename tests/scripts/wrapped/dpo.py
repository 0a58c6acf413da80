"""TRL's dpo script: pairs of answers, and a reference model beside the one that is trained."""

import places
from datasets import Dataset
from ray import tune
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from sweeps import SearchSpace


def pairs(count):
    return Dataset.from_dict(
        {
            "prompt": ["the food was "] * count,
            "chosen": ["great"] * count,
            "rejected": ["awful"] * count,
        }
    )


def main(args: DPOConfig, *, model=places.CAUSAL, with_reference=True):
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    reference = AutoModelForCausalLM.from_pretrained(model) if with_reference else None
    return DPOTrainer(
        AutoModelForCausalLM.from_pretrained(model),
        reference,
        args=args,
        train_dataset=pairs(32),
        eval_dataset=pairs(16),
        processing_class=tokenizer,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_rewards/accuracies",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2), "beta": tune.choice([0.1, 0.5])},
    fixed={"max_steps": 4, "max_length": 16, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2, "beta": 0.1}],
    evals_per_trial=2,
)
