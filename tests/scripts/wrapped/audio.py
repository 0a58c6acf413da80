"""Audio classification: random cuts on the fly, a feature extractor, a frozen encoder."""

from random import randint

import numpy as np
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from ray import tune
from transformers import (
    Trainer,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from sweeps import SearchSpace

RATE = 16000


def tones(count, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    time = np.arange(480) / RATE
    waves = [np.sin(2 * np.pi * (400 + 1200 * label) * time) for label in labels]
    features = Features(audio=Sequence(Value("float32")), label=ClassLabel(names=["low", "high"]))
    return Dataset.from_dict({"audio": waves, "label": labels}, features=features)


def random_subsample(wave, max_samples):
    if len(wave) <= max_samples:
        return wave
    offset = randint(0, len(wave) - max_samples - 1)
    return wave[offset : offset + max_samples]


def main(args: TrainingArguments, *, max_samples=320, freeze_feature_encoder=True):
    data = {"train": tones(32, seed=0), "eval": tones(16, seed=1)}
    names = data["train"].features["label"].names
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=False)
    name = extractor.model_input_names[0]

    def train_transforms(batch):
        cut = [random_subsample(np.array(wave), max_samples) for wave in batch["audio"]]
        inputs = extractor(cut, sampling_rate=RATE)
        return {name: inputs[name], "labels": list(batch["label"])}

    def val_transforms(batch):
        waves = [np.array(wave)[:max_samples] for wave in batch["audio"]]
        return {name: extractor(waves, sampling_rate=RATE)[name], "labels": list(batch["label"])}

    data["train"].set_transform(train_transforms, output_all_columns=False)
    data["eval"].set_transform(val_transforms, output_all_columns=False)
    network = Wav2Vec2ForSequenceClassification(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8, 8),
            conv_kernel=(8, 4),
            conv_stride=(4, 4),
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            classifier_proj_size=8,
            mask_time_prob=0.0,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={label: i for i, label in enumerate(names)},
        )
    )
    if freeze_feature_encoder:
        network.freeze_feature_encoder()

    def compute_metrics(eval_pred):
        predictions = np.argmax(eval_pred.predictions, axis=1)
        return {"accuracy": np.mean(predictions == eval_pred.label_ids)}

    return Trainer(
        model=network,
        args=args,
        train_dataset=data["train"],
        eval_dataset=data["eval"],
        compute_metrics=compute_metrics,
        processing_class=extractor,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_accuracy",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-4, 1e-2),
        "freeze_feature_encoder": tune.choice([True, False]),
    },
    fixed={
        "max_steps": 4,
        "remove_unused_columns": False,
        "gradient_accumulation_steps": 2,
    },
    first_params=[{"learning_rate": 1e-2, "freeze_feature_encoder": True}],
    evals_per_trial=2,
)
