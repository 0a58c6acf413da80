"""Summarization: an encoder-decoder that generates its answers at each evaluation."""

import numpy as np
import places
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
)

from sweeps import SearchSpace


def unigram_overlap(prediction, label):
    given, wanted = set(prediction.split()), set(label.split())
    return len(given & wanted) / max(len(wanted), 1)


def main(
    args: Seq2SeqTrainingArguments,
    *,
    tokenizer_name=places.MODEL,
    dataset=places.TEXTS,
    source_prefix="summarize: ",
    max_target_length=8,
    num_beams=None,
    ignore_pad_token_for_loss=True,
):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    network = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.sep_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )
    if args.label_smoothing_factor > 0 and not hasattr(
        network, "prepare_decoder_input_ids_from_labels"
    ):
        raise ValueError("label smoothing needs prepare_decoder_input_ids_from_labels")

    def preprocess(examples):
        inputs = [source_prefix + text for text in examples["text"]]
        summaries = [" ".join(text.split()[:3]) for text in examples["text"]]
        model_inputs = tokenizer(inputs, max_length=24, truncation=True)
        labels = tokenizer(text_target=summaries, max_length=max_target_length, truncation=True)
        model_inputs["labels"] = labels["input_ids"]
        return model_inputs

    raw = load_dataset(dataset)
    columns = raw["train"].column_names
    train, rows = (
        raw[name].select(range(n)).map(preprocess, batched=True, remove_columns=columns)
        for name, n in (("train", 32), ("validation", 16))
    )
    label_pad = -100 if ignore_pad_token_for_loss else tokenizer.pad_token_id
    collator = DataCollatorForSeq2Seq(tokenizer, model=network, label_pad_token_id=label_pad)

    def compute_metrics(eval_preds):
        preds, labels = eval_preds
        preds = preds[0] if isinstance(preds, tuple) else preds
        preds = np.where(preds != -100, preds, tokenizer.pad_token_id)
        labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
        given = tokenizer.batch_decode(preds, skip_special_tokens=True)
        wanted = tokenizer.batch_decode(labels, skip_special_tokens=True)
        scores = [unigram_overlap(*pair) for pair in zip(given, wanted, strict=False)]
        lengths = [np.count_nonzero(pred != tokenizer.pad_token_id) for pred in preds]
        return {"rouge1": round(100 * float(np.mean(scores)), 4), "gen_len": np.mean(lengths)}

    if args.generation_max_length is None:
        args.generation_max_length = max_target_length
    args.generation_num_beams = num_beams or args.generation_num_beams
    return Seq2SeqTrainer(
        model=network,
        args=args,
        train_dataset=train if args.do_train else None,
        eval_dataset=rows if args.do_eval else None,
        processing_class=tokenizer,
        data_collator=collator,
        compute_metrics=compute_metrics if args.predict_with_generate else None,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_rouge1",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 1e-2),
        "label_smoothing_factor": tune.choice([0.0, 0.1]),
    },
    fixed={"max_steps": 4, "predict_with_generate": True, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2, "label_smoothing_factor": 0.1}],
    evals_per_trial=2,
)
