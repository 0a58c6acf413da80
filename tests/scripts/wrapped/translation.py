"""Translation: language codes, a score that comes with a list, labels shifted by the collator."""

import numpy as np
import places
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from sweeps import SearchSpace


def corpus_score(given, wanted):
    """As `sacrebleu`: a score, and the counts that it is made of."""
    counts = [
        sum(g == w for g, w in zip(a.split(), b.split(), strict=False))
        for a, b in zip(given, wanted, strict=False)
    ]
    total = sum(len(text.split()) for text in wanted)
    return {"score": 100 * sum(counts) / total, "counts": counts}


def main(
    args: Seq2SeqTrainingArguments,
    *,
    tokenizer_name=places.MODEL,
    dataset=places.TEXTS,
    source_lang="en",
    target_lang="ne",
    max_target_length=8,
):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id}
    network = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=32,
            bos_token_id=tokenizer.cls_token_id,
            decoder_start_token_id=tokenizer.sep_token_id,
            forced_eos_token_id=None,
            **special,
        )
    )
    network.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.sep_token_id,
        forced_bos_token_id=tokenizer.cls_token_id,
        max_length=max_target_length,
        num_beams=2,
        **special,
    )

    def preprocess(examples):
        pairs = [
            {source_lang: text, target_lang: " ".join(reversed(text.split()[:3]))}
            for text in examples["text"]
        ]
        model_inputs = tokenizer(
            [pair[source_lang] for pair in pairs], max_length=24, truncation=True
        )
        labels = tokenizer(
            text_target=[pair[target_lang] for pair in pairs],
            max_length=max_target_length,
            truncation=True,
        )
        model_inputs["labels"] = labels["input_ids"]
        return model_inputs

    raw = load_dataset(dataset)
    columns = raw["train"].column_names
    with args.main_process_first(desc="train dataset map pre-processing"):
        train = raw["train"].select(range(32)).map(preprocess, batched=True, remove_columns=columns)
    with args.main_process_first(desc="validation dataset map pre-processing"):
        rows = raw["validation"].select(range(16))
        rows = rows.map(preprocess, batched=True, remove_columns=columns)

    def compute_metrics(eval_preds):
        preds, labels = eval_preds
        preds = np.where(preds != -100, preds, tokenizer.pad_token_id)
        labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
        given = [text.strip() for text in tokenizer.batch_decode(preds, skip_special_tokens=True)]
        wanted = [text.strip() for text in tokenizer.batch_decode(labels, skip_special_tokens=True)]
        result = {"bleu": corpus_score(given, wanted)["score"]}
        lengths = [np.count_nonzero(pred != tokenizer.pad_token_id) for pred in preds]
        return {**result, "gen_len": np.mean(lengths)}

    return Seq2SeqTrainer(
        model=network,
        args=args,
        train_dataset=train,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=network),
        compute_metrics=compute_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_bleu",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2)},
    fixed={"max_steps": 4, "predict_with_generate": True, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2}],
    evals_per_trial=2,
)
