"""Summarizes, in the manner of HF's `run_summarization.py`: Seq2SeqTrainer that generates."""

from dataclasses import dataclass

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    HfArgumentParser,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)


@dataclass
class Arguments:
    tokenizer: str
    data_folder: str
    max_target_length: int = 8
    source_prefix: str = "summarize: "


def main():
    parser = HfArgumentParser((Arguments, Seq2SeqTrainingArguments))
    args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    pad = tokenizer.pad_token_id
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            pad_token_id=pad,
            eos_token_id=tokenizer.sep_token_id,
            decoder_start_token_id=pad,
        )
    )

    def tokenize(batch):
        texts = [args.source_prefix + text for text in batch["text"]]
        found = tokenizer(texts, max_length=24, truncation=True)
        labels = [" ".join(text.split()[:4]) for text in batch["text"]]
        found["labels"] = tokenizer(labels, max_length=args.max_target_length, truncation=True)[
            "input_ids"
        ]
        return found

    raw = load_dataset(args.data_folder)
    rows = raw.map(tokenize, batched=True, remove_columns=raw["train"].column_names)

    def compute_metrics(prediction):
        predicted = np.where(prediction.predictions < 0, pad, prediction.predictions)
        return {"gen_len": float(np.mean([np.count_nonzero(one != pad) for one in predicted]))}

    trainer = Seq2SeqTrainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"].select(range(64)),
        eval_dataset=rows["validation"].select(range(16)),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        compute_metrics=compute_metrics if training_args.predict_with_generate else None,
    )
    trainer.train()
    trainer.save_state()


if __name__ == "__main__":
    main()
