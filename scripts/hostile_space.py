"""The search space of `scripts/hostile.py`: trials that harm their process, each before a good one.

A trial does what its `deed` says: patches when its trainer is built, everything else after the
first step. A good trial does nothing.
"""

import ctypes
import gc
import locale
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings

import torch
from ray import tune
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweeps import SearchSpace

STEPS = 12
FEATURES = 8


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.GELU(), nn.Dropout(0.1), nn.Linear(FEATURES, 1)
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(x).squeeze(-1)
        return {"loss": functional.mse_loss(logits, labels), "logits": logits}


# Patches.


def patch_a_function() -> None:
    original = functional.linear
    functional.linear = lambda *args: original(*args) * 1.01


def patch_a_method() -> None:
    nn.Dropout.forward = lambda self, x: x * 0.9


def patch_a_method_of_hf() -> None:
    original = Trainer.create_optimizer

    def create_optimizer(self, *args):
        self.args.learning_rate *= 2
        return original(self, *args)

    Trainer.create_optimizer = create_optimizer


def patch_the_code_of_a_function() -> None:
    def forward(self, input):
        return input * 0.5

    nn.GELU.forward.__code__ = forward.__code__


def patch_a_default() -> None:
    functional.mse_loss.__defaults__ = (None, None, "sum", None)


def register_a_global_hook() -> None:
    nn.modules.module.register_module_forward_hook(
        lambda module, args, out: out * 1.01 if isinstance(out, torch.Tensor) else out
    )


# Switches, and what Python keeps for a process.


def turn_switches_of_torch() -> None:
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.benchmark = True
    torch.backends.mkldnn.enabled = False
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.enable_flash_sdp(False)


def set_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)


def turn_settings_of_python() -> None:
    sys.setrecursionlimit(400)
    gc.disable()
    warnings.simplefilter("error")
    logging.disable(logging.CRITICAL)
    locale.setlocale(locale.LC_ALL, "C")
    multiprocessing.set_start_method("spawn", force=True)


def remove_variables_and_the_working_folder() -> None:
    os.makedirs("/tmp/hostile-folder", exist_ok=True)
    os.chdir("/tmp/hostile-folder")
    os.rmdir("/tmp/hostile-folder")
    for name in ("PATH", "HOME"):
        os.environ.pop(name, None)
    sys.path.clear()


# Limits and files.


def lower_the_limit_of_file_sizes() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))


def lower_the_limit_of_open_files_for_good() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))


def take_away_all_rights_of_new_files() -> None:
    os.umask(0o777)


def leave_files_open() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sys.modules["hostile_files"] = [open(os.devnull) for _ in range(min(soft // 2, 2000))]  # noqa: SIM115


def print_30_megabytes() -> None:
    for _ in range(300):
        print("x" * 100_000, flush=True)


# Ways to end or hang a process.


def exit_python() -> None:
    sys.exit(3)


def exit_at_once() -> None:
    os._exit(7)


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def set_an_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 8)


def hang() -> None:
    while True:
        time.sleep(1)


# Processes and threads.


def fork_a_child_that_stays() -> None:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)


def start_threads_that_stay() -> None:
    for _ in range(8):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()


def do_nothing() -> None:
    pass


DEEDS = {
    deed.__name__: deed
    for deed in (
        *(patch_a_function, patch_a_method, patch_a_method_of_hf, patch_the_code_of_a_function),
        *(patch_a_default, register_a_global_hook),
        *(turn_switches_of_torch, set_the_default_dtype, turn_settings_of_python),
        *(remove_variables_and_the_working_folder, lower_the_limit_of_file_sizes),
        *(lower_the_limit_of_open_files_for_good, take_away_all_rights_of_new_files),
        *(leave_files_open, print_30_megabytes, exit_python, exit_at_once, segfault, abort),
        *(set_an_alarm, hang, fork_a_child_that_stays, start_threads_that_stay),
    )
}
GOOD = do_nothing.__name__


class Harms(TrainerCallback):
    """Does the deed after the first step, while the libraries are in use."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == 1:
            DEEDS.get(self.deed, do_nothing)()


def build(args: TrainingArguments, deed: str = GOOD, number: int = 0) -> Trainer:
    source = torch.Generator().manual_seed(7)
    features = torch.randn(STEPS * 4 + 32, FEATURES, generator=source)
    rows = [{"x": x, "labels": x.sum()} for x in features]
    trainer = Trainer(
        Regression(), args, train_dataset=rows[: STEPS * 4], eval_dataset=rows[STEPS * 4 :]
    )
    if deed.startswith(("patch", "register")):
        DEEDS[deed]()
    else:
        trainer.add_callback(Harms(deed))
    return trainer


PAIRS = [
    {"deed": deed, "number": place} for place, name in enumerate(DEEDS) for deed in (name, GOOD)
]

SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={
        "deed": tune.choice([*DEEDS, GOOD]),
        "number": tune.randint(0, 1000),
    },
    fixed={
        "learning_rate": 0.05,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
    },
    first_params=[{"deed": GOOD, "number": 999}, *PAIRS],
    evals_per_trial=3,
)
