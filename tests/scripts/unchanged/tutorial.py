# A tutorial that grew out of a notebook: everything at the top, literals, no seed.
import os

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

FOLDER = os.environ["TUTORIAL"]
tokenizer = AutoTokenizer.from_pretrained(f"{FOLDER}/model")
dataset = load_dataset(f"{FOLDER}/dataset")
tokenized = dataset.map(
    lambda batch: tokenizer(batch["text"], truncation=True, padding="max_length", max_length=32),
    batched=True,
)
model = AutoModelForSequenceClassification.from_pretrained(f"{FOLDER}/model", num_labels=5)

training_args = TrainingArguments(
    output_dir="test_trainer",
    learning_rate=2e-5,
    per_device_train_batch_size=16,
    num_train_epochs=1,
    max_steps=8,
    eval_strategy="steps",
    eval_steps=2,
    save_strategy="no",
    report_to="none",
    load_best_model_at_end=False,
)


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.save_state()
print(trainer.evaluate())
