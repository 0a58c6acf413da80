"""Adapts a classifier by LoRA; its command line is click's."""

import click
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


@click.command()
@click.option("--model", required=True)
@click.option("--data", required=True)
@click.option("--output-dir", default="lora-out")
@click.option("--lr", default=1e-4)
@click.option("--lora-r", default=4)
@click.option("--lora-alpha", default=8.0)
@click.option("--bias/--no-bias", default=False)
@click.option("--max-steps", default=8)
@click.option("--eval-steps", default=2)
@click.option("--seed", default=7)
def train(model, data, output_dir, lr, lora_r, lora_alpha, bias, max_steps, eval_steps, seed):
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=5)
    network = get_peft_model(
        network,
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=lora_r,
            lora_alpha=lora_alpha,
            bias="lora_only" if bias else "none",
            target_modules=["query", "value"],
        ),
    )
    rows = load_dataset(data).map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=32), batched=True
    )
    args = TrainingArguments(
        output_dir,
        learning_rate=lr,
        max_steps=max_steps,
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_strategy="no",
        seed=seed,
        report_to="none",
    )
    trainer = Trainer(
        model=network,
        args=args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    try:
        trainer.train()
    except Exception as error:  # keep what there is
        click.echo(f"training failed: {error}")
    trainer.save_state()
    click.echo(f"final loss: {trainer.evaluate()['eval_loss']}")


if __name__ == "__main__":
    train()
