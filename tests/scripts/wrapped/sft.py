"""TRL's sft script: a model by its name, a LoRA adapter by keywords."""

import places
from datasets import load_dataset
from peft import LoraConfig
from ray import tune
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from sweeps import SearchSpace


def main(args: SFTConfig, *, model=places.CAUSAL, dataset=places.TEXTS, lora_r=None):
    args.model_init_kwargs = None
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    data = load_dataset(dataset).remove_columns("label")
    peft_config = None
    if lora_r is not None:
        peft_config = LoraConfig(r=lora_r, task_type="CAUSAL_LM", target_modules=["c_attn"])
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=args,
        train_dataset=data["train"].select(range(32)),
        eval_dataset=data["validation"].select(range(16)),
        processing_class=tokenizer,
        peft_config=peft_config,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_mean_token_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2), "lora_r": tune.choice([2, None])},
    fixed={"max_steps": 4, "max_length": 16, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2, "lora_r": 2}],
    evals_per_trial=2,
)
