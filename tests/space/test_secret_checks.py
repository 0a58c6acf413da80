"""A space or command line that contains a secret is refused, and the refusal does not show it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from transformers import TrainingArguments

from sweeps import Script, SearchSpace, SweepConfig, secrets
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import read_record, write_record
from sweeps.space.secret_checks import refuse_secrets

INSTEAD = (
    ", but everything in a space is recorded (sweep.json, MLflow); set an environment variable"
    " with a name like HF_TOKEN or X_API_KEY instead, which every worker receives"
)


def build(
    args: TrainingArguments,
    *,
    api_key: str = "",
    token: str | None = None,
    pad_token: str = "",
    data_url: str = "",
    options: Any = None,
) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Builder:
    access_token: str | None = None

    def __call__(self, args: TrainingArguments) -> None: ...


SPACE = SearchSpace(
    build_trainer=build, metric="m", mode="max", tuned={"learning_rate": tune.uniform(0, 1)}
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_seen", {})
    monkeypatch.setenv("HF_TOKEN", "abracadabra-7")


def refused(space: SearchSpace, *assignments: str) -> str:
    with pytest.raises(UserError) as raised:
        make_request(space, SweepConfig(), assignments=assignments)
    assert "abracadabra-7" not in str(raised.value)
    return str(raised.value)


def test_hub_token_is_refused_wherever_it_stands():
    reason = (
        "this is a secret, and everything in a space is recorded; set HF_TOKEN in the environment"
        " instead"
    )
    assert refused(SPACE, "hub_token=hf_x") == f"the command line: hub_token: {reason}; remove it"
    assert refused(replace(SPACE, fixed={"hub_token": "hf_x"})) == (
        f"the search space: fixed['hub_token']: {reason}; remove it"
    )


def test_a_value_whose_key_says_secret_is_refused_on_the_command_line_too():
    assert refused(SPACE, "api_key=anything") == (
        f"the search space: fixed['api_key'] contains a secret{INSTEAD}"
    )


def test_every_place_of_a_secret_value_is_named_without_the_value():
    space = replace(
        SPACE,
        tuned={**SPACE.tuned, "pad_token": tune.choice(["[PAD]", "x abracadabra-7"])},
        fixed={"data_url": "s3://ada:pw@bucket", "options": {"headers": [{"api_key": "k"}]}},
        first_params=[{"learning_rate": 0.1, "pad_token": "x abracadabra-7"}],
    )
    assert refused(space) == "\n".join(
        [
            "the search space has 4 problems",
            f"  tuned['pad_token'] contains the value of $HF_TOKEN{INSTEAD}",
            f"  fixed['data_url'] contains credentials inside a URI{INSTEAD}",
            f"  fixed['options']['headers']['api_key'] contains a secret{INSTEAD}",
            f"  first_params[0]['pad_token'] contains the value of $HF_TOKEN{INSTEAD}",
        ]
    )


def test_a_secret_in_a_builders_field_is_refused():
    space = replace(SPACE, build_trainer=Builder(access_token="anything"))
    assert refused(space) == (
        f"the search space: build_trainer.access_token contains a secret{INSTEAD}"
    )


def test_tokens_of_a_tokenizer_and_empty_secrets_are_none():
    space = replace(
        SPACE,
        build_trainer=Builder(),
        fixed={"lr_scheduler_type": "linear"},
    )
    make_request(space, SweepConfig())
    fixed = {"pad_token": "[PAD]", "token": None, "api_key": ""}
    make_request(replace(SPACE, fixed=fixed), SweepConfig())


def test_sweep_json_and_the_lines_a_person_gets_show_no_credentials_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "before")
    uri = "https://ada:lovelace-1815@mlflow.example"
    request = make_request(
        SPACE,
        SweepConfig(tracking_uri=uri),
        command=f"python -m sweeps run x --tracking-uri {uri} # abracadabra-7",
    )
    assert request.tracking_uri == "https://mlflow.example"
    folder = SweepFolder(tmp_path)
    write_record(folder, make_record(request, folder.id))
    assert read_record(folder).command == (
        "python -m sweeps run x --tracking-uri https://***@mlflow.example # ***"
    )
    assert "lovelace-1815" not in folder.record_file.read_text()
    environment = secrets.os.environ
    assert environment["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert environment["MLFLOW_TRACKING_PASSWORD"] == "lovelace-1815"


def test_the_definition_that_travels_to_workers_does_not_show_its_secrets():
    from sweeps.workers.job import Definition

    definition = Definition(
        space=b"",
        folder=SweepFolder(Path("x")),
        workers=1,
        gpu=False,
        measures_gpu=False,
        fresh_workers=False,
        started_in=Path.cwd(),
        stall_timeout_s=600,
        secrets={"HF_TOKEN": "abracadabra-7"},
    )
    assert "abracadabra-7" not in repr(definition)


@pytest.mark.parametrize(
    "words", [("--data", "x", "--hub_token", "anything"), ("--hub-token=anything",)]
)
def test_a_secret_on_the_command_line_of_a_script_is_refused(words: tuple[str, ...]):
    space = replace(SPACE, build_trainer=Script("train.py", *words))
    with pytest.raises(UserError, match=r"build_trainer --hub.token contains a secret"):
        refuse_secrets(space, "the search space")
    refuse_secrets(replace(space, build_trainer=Script("train.py", "--hub_token")), "-")
