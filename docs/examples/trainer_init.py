"""A `trainer_init_per_worker` that was written for Ray's old `TransformersTrainer`."""

from datasets import load_dataset
from ray import tune
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer

from sweeps import SearchSpace


def trainer_init_per_worker(train_dataset, eval_dataset, **config):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config["model"]))
    return Trainer(
        model=model,
        args=config["args"],  # was args = TrainingArguments(..., learning_rate=config["lr"])
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
    )


def build(args, *, model="openai-community/gpt2", dataset="Salesforce/wikitext", name=None):
    """Takes the place of `TransformersTrainer(trainer_init_per_worker, datasets={...})`."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def blocks(batch, length=64):
        tokens = [token for text in batch["text"] for token in tokenizer(text)["input_ids"]]
        cut = [tokens[i : i + length] for i in range(0, len(tokens) - length + 1, length)]
        return {"input_ids": cut, "labels": cut}

    splits = load_dataset(dataset, name)
    data = splits.map(blocks, batched=True, remove_columns=splits["train"].column_names)
    return trainer_init_per_worker(data["train"], data["validation"], args=args, model=model)


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"name": "wikitext-2-raw-v1", "num_train_epochs": 1},
)
