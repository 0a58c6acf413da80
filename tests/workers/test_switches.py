"""What isolation puts back: each value is changed, put back, and read again.

And a walk through PyTorch: where a new torch has a switch that is not put back, a test fails.
"""

import ast
import gc
import importlib.util
import logging
import os
import re
import resource
import signal
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils._config_module import ConfigModule
from transformers import TrainingArguments, training_args

from sweeps.workers.isolation import process_switches, torch_switches
from sweeps.workers.isolation.called_once import CALLED_ONCE
from sweeps.workers.isolation.isolated import restore
from sweeps.workers.isolation.switches import Switch, Switches


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    before = Switches([*process_switches.find(), *torch_switches.find()])
    yield
    before.put_back()


OTHERS = {
    "torch.set_float32_matmul_precision": "medium",
    "torch.set_default_dtype": torch.float64,
    "torch.multiprocessing.set_sharing_strategy": "file_system",
    "torch._C._set_autograd_fallback_mode": "nothing",
    "torch._C._set_sdp_priority_order": [0, 1, 2, 3, 4],
    "torch._C._set_sm_carveout_experimental": 8,
    "torch.backends.cuda.preferred_linalg_library": "cusolver",
    "torch.backends.cuda.preferred_blas_library": "cublaslt",
    "torch.backends.cuda.preferred_rocm_fa_library": "aotriton",
    "torch.backends.cudnn.depthwise_kernel": "native",
    "torch.backends.quantized.engine": "qnnpack",
    "torch.set_default_device": torch.device("meta"),
    "torch.use_deterministic_algorithms": (True, True),
    "torch.autograd.set_detect_anomaly": (True, False),
    "torch.set_autocast_dtype of cpu": torch.float16,
    "torch.set_autocast_dtype of cuda": torch.bfloat16,
    "the working folder": "/",
    "sys.stdin": None,
    "sys.stdout": sys.__stderr__,
    "sys.stderr": sys.__stdout__,
    "sys.displayhook": print,
    "sys.excepthook": print,
    "sys.unraisablehook": print,
    "threading.excepthook": print,
    "sys.tracebacklimit": 3,
    "tempfile.tempdir": "/nowhere",
    "warnings.showwarning": print,
    "logging.lastResort": None,
    "the main module": sys,
    "PathFinder.find_distributions": print,
    "sys.settrace": lambda *_: None,
    "sys.setprofile": lambda *_: None,
    "threading.settrace": print,
    "threading.setprofile": print,
    "gc.set_threshold": (7, 7, 7),
    "gc.set_debug": gc.DEBUG_UNCOLLECTABLE,
    "multiprocessing.set_start_method": "spawn",
    "locale.setlocale": "C.UTF-8",
    "decimal.getcontext().rounding": "ROUND_UP",
    "numpy.seterr": dict.fromkeys(("divide", "over", "under", "invalid"), "raise"),
    "numpy.set_printoptions": {"precision": 3},
    "logging.setLogRecordFactory": logging.makeLogRecord,
    "socket.setdefaulttimeout": 1.0,
    "signal.signal(SIGTERM)": lambda *_: None,
    "signal.signal(SIGINT)": lambda *_: None,
}
"""A value other than the one at hand, where none follows from its type."""
NOT_HERE = {
    # Setting it raises.
    "torch._C._set_onednn_allow_tf32": "only with an Intel GPU",
    "torch._C._set_cpu_allow_fp16_reduced_precision_reduction": "only on some CPUs",
    **dict.fromkeys(
        (
            "torch.backends.cuda.cublas_workspace_size",
            "torch.backends.cuda.cublaslt_workspace_size",
            "torch.backends.cuda.preferred_linalg_library",
            "torch.backends.cuda.preferred_blas_library",
        ),
        "only with CUDA",
    ),
    "torch.nn.attention.activate_flash_attention_impl": "none is registered",
    "torch.backends.quantized.supported_engines": "cannot be assigned",
}


def change(switch: Switch) -> None:
    assert switch.write is not None
    value = switch.read()
    if switch.name in OTHERS:
        switch.write(OTHERS[switch.name])
    elif switch.name.startswith("fp32_precision"):
        switch.write("ieee")
    elif switch.name.startswith("signal.setitimer"):
        signal.setitimer(getattr(signal, switch.name[17:-1]), 1000)
    elif switch.name.startswith("resource"):
        soft, hard = value
        switch.write((1000 if soft == -1 else soft - 1 if soft else 1, hard))
    elif switch.name.startswith("the logger"):
        switch.write((value[0] + 1, [logging.NullHandler()], [print], not value[3], not value[4]))
    elif switch.name == "new loggers":
        logging.getLogger("left behind").setLevel(1)
    elif switch.name == "os.sched_setaffinity":
        switch.write({min(value)})
    elif switch.name == "warnings.filters":
        warnings.simplefilter("error", ResourceWarning)
    elif isinstance(value, bool):
        switch.write(not value)
    elif isinstance(value, int | float):
        switch.write(value + 1)
    elif isinstance(value, tuple):
        switch.write(tuple(not part for part in value))
    elif isinstance(value, list):
        switch.write([*value, "other"])
    elif isinstance(value, dict):
        switch.write({**value, **changed_entry(value)})
    else:
        raise AssertionError(f"how does one change {switch.name} = {value!r}?")


def changed_entry(values: dict[str, Any]) -> dict[str, Any]:
    if "PATH" in values:
        return {"LEFT_BEHIND": "1"}
    return {key: not value for key, value in values.items() if isinstance(value, bool)}


def test_a_handler_of_a_job_for_the_signals_that_end_a_process_is_put_back():
    numbers = (signal.SIGTERM, signal.SIGINT)
    own = [signal.getsignal(number) for number in numbers]
    before = Switches(process_switches.find())
    try:
        for number in numbers:
            signal.signal(number, lambda *_: None)
        assert before.put_back() == []
        assert [signal.getsignal(number) for number in numbers] == own
    finally:
        for number, handler in zip(numbers, own, strict=True):
            signal.signal(number, handler)


def test_the_search_for_installed_packages_is_put_back(monkeypatch: pytest.MonkeyPatch):
    """`importlib_metadata` removes Python's own, in favour of one that it adds to `meta_path`."""
    monkeypatch.setattr(PathFinder, "find_distributions", print, raising=False)
    before = Switches(process_switches.find())
    del PathFinder.find_distributions
    assert before.put_back() == []
    assert PathFinder.find_distributions is print


def test_a_logger_that_a_job_creates_is_as_new_for_the_next_and_its_files_are_closed(
    tmp_path: Path,
):
    shared = logging.FileHandler(tmp_path / "all.log")
    logging.root.addHandler(shared)
    before = Switches(process_switches.find())
    package, module = (logging.getLogger(name) for name in ("of a job", "of a job.training"))
    for job in ("t000", "t001"):
        own = logging.FileHandler(tmp_path / f"{job}.log")
        package.addFilter(print)
        package.disabled = True
        module.addHandler(own)
        module.addHandler(shared)
        module.setLevel(logging.INFO)
        module.propagate = False
        module.info("built %s", job)
        assert before.put_back() == []
        assert own.stream is None, "it is closed"
        for logger in (package, module):
            state = (logger.handlers, logger.filters, logger.level)
            assert state == ([], [], logging.NOTSET)
            assert (logger.propagate, logger.disabled) == (True, False)
    assert (tmp_path / "t000.log").read_text() == "built t000\n"
    assert shared.stream is not None, "the process had it before the job"
    logging.root.removeHandler(shared)
    shared.close()


def test_every_value_is_changed_and_put_back():
    found = [*process_switches.find(), *torch_switches.find()]
    changed = [
        each
        for each in found
        if each.write is not None
        and each.name not in NOT_HERE
        and not (each.name.startswith("resource") and each.read() == (0, 0))
    ]
    assert len({each.name for each in found}) == len(found)
    few = [each for each in found if not each.name.startswith("the logger")]
    for switch in changed:
        alone = switch.name.startswith("the logger")  # hundreds, and changing one changes no other
        before = Switches([switch] if alone else few)
        value = switch.read()
        change(switch)
        assert switch.read() != value, f"{switch.name} was not changed"
        assert before.put_back() == [], switch.name
        assert switch.read() == value, switch.name
    assert "LEFT_BEHIND" not in os.environ


@pytest.mark.parametrize(
    "use",
    [
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),  # HF's tf32 and torch_compile
        lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        lambda: setattr(torch.backends.mkldnn, "fp32_precision", "bf16"),
        lambda: torch.backends.mkldnn.set_flags(_fp32_precision="bf16"),
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    ],
)
def test_precisions_set_by_either_interface_are_put_back_for_both(use: Callable[[], None]):
    """Torch raises on reading a legacy switch where it finds a mix of the interfaces."""

    def read() -> list[object]:
        return [
            *(torch._C._get_fp32_precision_getter(*each) for each in torch_switches.PRECISIONS),
            torch.get_float32_matmul_precision(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        ]

    before, values = Switches(torch_switches.find()), read()
    use()
    assert before.put_back() == []
    assert read() == values


@pytest.mark.parametrize("fixed", [{"tf32": True}, {"tf32": None, "torch_compile": True}])
def test_each_job_gets_the_precision_that_its_arguments_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: dict[str, Any]
):
    """HF sets it only once in a process."""
    monkeypatch.setattr(training_args, "is_torch_tf32_available", lambda: True)
    baseline = Switches(torch_switches.find())
    for _ in range(3):
        TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **fixed)
        assert torch.backends.fp32_precision == "tf32"
        restore(baseline)
        assert torch.backends.fp32_precision == "none"


ONLY_LOG = re.compile(r"(warning|info|print)_once|_warn_\w+")


def test_library_functions_that_work_only_once_are_known():
    found = {
        f"{library}.{'.'.join(file.relative_to(root).with_suffix('').parts)}.{name}"
        for library in ("transformers", "accelerate", "peft", "trl", "datasets", "evaluate")
        if (spec := importlib.util.find_spec(library))
        for root in map(Path, spec.submodule_search_locations or ())
        for file in root.rglob("*.py")
        for name in cached_without_result(file.read_text(errors="ignore"))
    }
    known = {f"{one.__module__}.{one.__name__}" for one in CALLED_ONCE}
    assert {one for one in found if not ONLY_LOG.fullmatch(one.rpartition(".")[2])} == known


def cached_without_result(source: str) -> Iterator[str]:
    """Yield the names of the cached functions that return nothing."""
    if not re.search(r"@(functools\.)?(lru_)?cache\b", source):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            returns = [each for each in ast.walk(node) if isinstance(each, ast.Return)]
            if "cache" in decorators and not any(each.value for each in returns):
                yield node.name


def test_what_cannot_be_put_back_is_named():
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    only_read = Switch("what lasts", lambda: resource.getrlimit(resource.RLIMIT_CORE), None)
    before = Switches([only_read])
    resource.setrlimit(resource.RLIMIT_CORE, (1 if soft != 1 else 0, hard))
    assert before.put_back() == ["what lasts"]


def test_a_process_group_that_a_job_has_destroyed_is_named(tmp_path: Path):
    """Otherwise the next job would fail in its first collective call."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    before = Switches(torch_switches.find())
    dist.destroy_process_group()
    assert before.put_back() == ["the process group of torch.distributed"]


def test_a_profiler_that_a_job_has_left_on_is_named():
    """A second one could not start."""
    before = Switches(torch_switches.find())
    with torch.autograd.profiler.profile():
        assert before.put_back() == ["torch.profiler.profile"]


def test_what_traces_memory_is_turned_off_again():
    before = Switches(process_switches.find())
    tracemalloc.start()
    assert before.put_back() == []
    assert not tracemalloc.is_tracing()


def test_what_a_job_sets_of_the_gpu_is_put_back(monkeypatch: pytest.MonkeyPatch):
    values: dict[str, Any] = {"per_process_memory_fraction": 1.0, "sync_debug_mode": 0}
    own = dict(values)
    for name in own:
        monkeypatch.setattr(torch.cuda, f"get_{name}", partial(values.get, name))
        monkeypatch.setattr(torch.cuda, f"set_{name}", partial(values.__setitem__, name))
    before = Switches(torch_switches.find())
    torch.cuda.set_sync_debug_mode(2)
    assert before.put_back() == []
    assert values["sync_debug_mode"] == 2, "without a GPU in use, nothing is read"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    values |= own
    before = Switches(torch_switches.find())
    torch.cuda.set_per_process_memory_fraction(0.1)
    torch.cuda.set_sync_debug_mode(2)
    assert before.put_back() == []
    assert values == own


# PyTorch, walked.

SETTERS = re.compile(r"(set|enable|use|allow|preferred|activate)_|.*_workspace_size$")
PUT_BACK_AS = {
    # The same values by other names.
    "_set_cublas_allow_tf32": "fp32_precision of cuda, matmul",
    "_set_fp32_precision_setter": "fp32_precision of generic, all",
    "_set_float32_matmul_precision": "torch.set_float32_matmul_precision",
    "_set_cublas_allow_fp16_reduced_precision_reduction": (
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction"
    ),
    "_set_cublas_allow_bf16_reduced_precision_reduction": (
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction"
    ),
    "_set_blas_preferred_backend": "torch.backends.cuda.preferred_blas_library",
    "_set_linalg_preferred_backend": "torch.backends.cuda.preferred_linalg_library",
    "_set_rocm_fa_preferred_backend": "torch.backends.cuda.preferred_rocm_fa_library",
    "_set_cudnn_benchmark": "torch.backends.cudnn.benchmark",
    "_set_cudnn_depthwise_kernel": "torch.backends.cudnn.depthwise_kernel",
    "_set_cudnn_deterministic": "torch.backends.cudnn.deterministic",
    "_set_cudnn_enabled": "torch.backends.cudnn.enabled",
    "_set_miopen_immediate": "torch.backends.miopen.immediate",
    "_set_mkldnn_deterministic": "torch.backends.mkldnn.deterministic",
    "_set_mkldnn_enabled": "torch.backends.mkldnn.enabled",
    "_set_qengine": "torch.backends.quantized.engine",
    "_set_default_dtype": "torch.set_default_dtype",
    "_set_default_tensor_type": "torch.set_default_dtype",
    "_set_deterministic_algorithms": "torch.use_deterministic_algorithms",
    "_set_deterministic_fill_uninitialized_memory": (
        "torch.utils.deterministic.fill_uninitialized_memory"
    ),
    "_set_grad_enabled": "torch.set_grad_enabled",
    "_set_math_sdp_allow_fp16_bf16_reduction": (
        "torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp"
    ),
    "_set_sdp_use_cudnn": "torch.backends.cuda.enable_cudnn_sdp",
    "_set_sdp_use_flash": "torch.backends.cuda.enable_flash_sdp",
    "_set_sdp_use_math": "torch.backends.cuda.enable_math_sdp",
    "_set_sdp_use_mem_efficient": "torch.backends.cuda.enable_mem_efficient_sdp",
    "_set_warnAlways": "torch.set_warn_always",
    "torch.set_anomaly_enabled": "torch.autograd.set_detect_anomaly",
    "torch.set_default_tensor_type": "torch.set_default_dtype",
    "torch.set_deterministic_debug_mode": "torch.use_deterministic_algorithms",
    "torch.set_num_interop_threads": "torch.set_num_interop_threads",
    "torch.autograd.set_grad_enabled": "torch.set_grad_enabled",
    "torch.autograd.set_multithreading_enabled": "torch._C._set_multithreading_enabled",
    **{
        f"torch.set_autocast_{device}_{what}": f"torch.set_autocast_{what} of {device}"
        for device in ("cpu",)
        for what in ("enabled", "dtype")
    },
    "torch.set_autocast_gpu_dtype": "torch.set_autocast_dtype of cuda",
    "torch.set_autocast_enabled": "torch.set_autocast_enabled of cuda",
    "torch.set_autocast_dtype": "torch.set_autocast_dtype of cuda",
}
NO_SWITCH = {
    # Of a tensor, a graph, a thread's name, a worker's processes.
    *("_set_conj", "_set_neg", "_set_tensor_metadata", "_set_value_trace", "_set_thread_name"),
    *("_set_worker_pids", "_set_worker_signal_handlers", "_set_generator_metaclass"),
    *("_set_storage_access_error_msg", "_set_storage_data_ptr_access_error_msg"),
    # Of TorchScript, of tracing, of printing and warning.
    *("_set_graph_exec_group", "_set_graph_executor_optimize", "_set_tracing_state"),
    *("_set_should_use_format_with_string_table", "_set_print_stack_traces_on_fatal_signal"),
    *("_set_backcompat_broadcast_warn", "_set_backcompat_keepdim_warn"),
    *("_set_throw_on_mutable_data_ptr", "_set_warn_deprecated_on_mutable_data_ptr"),
    *("_set_warn_on_accumulate_grad_stream_mismatch", "_set_default_mobile_cpu_allocator"),
    # Of the dispatcher, inside one call; modes that stay are found by the length of their stack.
    *("_set_dispatch_mode", "_set_meta_in_tls_dispatch_include", "_set_torch_function_state"),
    *("_set_only_lift_cpu_tensors", "_set_skip_next_torch_function"),
    *("_set_cached_tensors_enabled", "_set_override_stale_capture_stream"),
    *("_set_dtensor_allow_implicit_replication", "_set_grad_layout_enforcement_enabled"),
    # Of random numbers, which each job seeds; of printing; of what this project does not run on.
    *("torch.set_rng_state", "torch.set_printoptions", "torch.set_vital"),
    *("torch.set_autocast_ipu_dtype", "torch.set_autocast_ipu_enabled"),
    *("torch.set_autocast_xla_dtype", "torch.set_autocast_xla_enabled"),
    # Workspaces of either library, for the preferred one.
    "torch.backends.cuda.blas_workspace_size",
    "torch.autograd.set_override_stale_capture_stream",
    # Contexts, and Python's own.
    *("torch.enable_grad", "torch.autograd.enable_grad"),
    *(
        f"torch.multiprocessing.{name}"
        for name in ("set_start_method", "set_executable", "set_forkserver_preload")
    ),
    "torch.multiprocessing.allow_connection_pickling",
}


def setters() -> Iterator[str]:
    """The names of what sets something in this torch."""
    yield from (name for name in dir(torch._C) if name.startswith("_set_"))
    modules = [torch, torch.autograd, torch.__future__, torch.multiprocessing, torch.nn.attention]
    modules += [each for name, each in sys.modules.items() if name.startswith("torch.backends.")]
    for module in modules:
        for name in vars(getattr(module, "m", module)):
            if SETTERS.match(name) and name != "set_flags":
                yield f"{module.__name__}.{name}"


def test_torch_has_no_other_switch():
    known = {each.name for each in torch_switches.find()}
    assert set(PUT_BACK_AS.values()) - known <= {"torch.backends.cudnn.depthwise_kernel"}
    unknown = [
        name
        for name in setters()
        if not {name, f"torch._C.{name}", PUT_BACK_AS.get(name)} & known and name not in NO_SWITCH
    ]
    assert unknown == [], "put these back (torch_switches.py), or say why they change no number"


def test_all_configurations_of_torch_compile_are_put_back():
    known = {each.name for each in torch_switches.find()}
    loaded = {name for name, each in sys.modules.items() if isinstance(each, ConfigModule)}
    assert {"torch._dynamo.config", "torch._inductor.config"} < loaded <= known


def test_every_precision_of_torch_backends_is_put_back():
    """`fp32_precision` has an owner for each backend, and for each of its operations."""
    owners = {
        name
        for module in sys.modules.values()
        if getattr(module, "__name__", "").startswith("torch.backends")
        for name, value in {**vars(type(module)), **vars(module)}.items()
        if isinstance(value, torch.backends.m._FP32Precision)
    }
    assert owners <= {part for _, part in torch_switches.PRECISIONS}
