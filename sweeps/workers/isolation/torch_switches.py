"""The PyTorch switches that affect results: read before the first job, restored after each one.

Runs in the workers. It must not know what a job does. A test walks through PyTorch, and fails if a
switch is neither here nor known to have no effect on results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

import torch
import torch._dynamo.config
import torch._functorch.config
import torch._inductor.config
import torch.nn.attention
import torch.utils.deterministic
from torch.utils._config_module import ConfigModule

from sweeps.workers.isolation.switches import Switch, attribute

PRECISIONS = (
    ("generic", "all"),
    *((backend, part) for backend in ("cuda", "mkldnn") for part in ("all", "matmul", "conv")),
    *((backend, "rnn") for backend in ("cuda", "mkldnn")),
)
"""The backends in `torch.backends` with an `fp32_precision`. It is written with torch's own setter,
since assigning `torch.backends.mkldnn.fp32_precision` sets it for all backends (torch 2.11 to
2.13)."""
LEGACY = (
    ("get_float32_matmul_precision", "set_float32_matmul_precision"),
    ("_C._get_cudnn_allow_tf32", "_C._set_cudnn_allow_tf32"),
    ("_C._get_onednn_allow_tf32", "_C._set_onednn_allow_tf32"),
)
"""The switches that `fp32_precision` replaces. Writing one also sets precisions. Reading one raises
an error if torch finds a mix of both."""
PAIRS = (
    *LEGACY,
    ("get_num_threads", "set_num_threads"),
    ("get_default_dtype", "set_default_dtype"),
    ("is_grad_enabled", "set_grad_enabled"),
    ("is_warn_always_enabled", "set_warn_always"),
    ("is_autocast_cache_enabled", "set_autocast_cache_enabled"),
    *(
        (f"__future__.get_{name}", f"__future__.set_{name}")
        for name in (
            "overwrite_module_params_on_conversion",
            "swap_module_params_on_conversion",
        )
    ),
    *(
        (f"backends.cuda.{name}_sdp_enabled", f"backends.cuda.enable_{name}_sdp")
        for name in ("flash", "mem_efficient", "math", "cudnn")
    ),
    (
        "backends.cuda.fp16_bf16_reduction_math_sdp_allowed",
        "backends.cuda.allow_fp16_bf16_reduction_math_sdp",
    ),
    *((f"backends.cuda.preferred_{name}_library",) * 2 for name in ("linalg", "blas", "rocm_fa")),
    *((f"backends.cuda.{name}_workspace_size",) * 2 for name in ("cublas", "cublaslt")),
    ("backends.mha.get_fastpath_enabled", "backends.mha.set_fastpath_enabled"),
    ("multiprocessing.get_sharing_strategy", "multiprocessing.set_sharing_strategy"),
    # These can only be read with private functions.
    *(
        (f"_C._get_{name}", f"_C._set_{name}")
        for name in (
            "autograd_fallback_mode",
            "cpu_allow_fp16_reduced_precision_reduction",
            "cublas_allow_fp16_accumulation",
            "nnpack_enabled",
            "sdp_priority_order",
            "sm_carveout_experimental",
        )
    ),
    ("_C._get_overrideable_sdp_enabled", "_C._set_sdp_use_overrideable"),
    ("_C._get_fa3_sdp_enabled", "_C._set_sdp_use_fa3"),
    ("_C._is_fwd_grad_enabled", "_C._set_fwd_grad_enabled"),
    ("_C._is_multithreading_enabled", "_C._set_multithreading_enabled"),
    ("_C._is_view_replay_enabled", "_C._set_view_replay_enabled"),
    ("_C._check_sparse_tensor_invariants", "_C._set_check_sparse_tensor_invariants"),
)
"""Names inside `torch`: the function that reads a switch, and the one that writes it. Some versions
of torch lack some of them."""
_LASTING = (
    ("get_num_interop_threads", "torch.set_num_interop_threads"),
    ("is_inference_mode_enabled", "torch.inference_mode"),
    ("distributed.is_initialized", "the process group of torch.distributed"),
    ("autograd._profiler_enabled", "torch.profiler.profile"),
    ("_C._len_torch_function_stack", "a torch function mode"),
    ("_C._len_torch_dispatch_stack", "a torch dispatch mode"),
)
"""Switches that can be read, but can be set only once, only by all ranks together, or only by
leaving a context; with their names."""


def find() -> list[Switch]:
    """Return the switches of this version of torch, in the order in which they are restored."""
    return [
        *_of_pairs(),
        *_precisions(),
        *_properties(),
        *_of_several_values(),
        *_of_the_gpu(),
        *_configs(),
        *_lasting(),
    ]


def _below_torch(name: str) -> Any:
    try:
        return attrgetter(name)(torch)
    except AttributeError:
        return None


def _of_pairs() -> Iterator[Switch]:
    for read, write in PAIRS:
        if (reader := _below_torch(read)) and (writer := _below_torch(write)):
            yield Switch(f"torch.{write}", reader, writer)


def _precisions() -> Iterator[Switch]:
    for backend, part in PRECISIONS:
        yield Switch(
            f"fp32_precision of {backend}, {part}",
            partial(torch._C._get_fp32_precision_getter, backend, part),
            partial(torch._C._set_fp32_precision_setter, backend, part),
        )


def _properties() -> Iterator[Switch]:
    """Yield the switches of `torch.backends`, which are data descriptors of its module types."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("torch.backends."):
            for key, descriptor in vars(type(module)).items():
                plain = isinstance(descriptor, property) or not hasattr(descriptor, "__set__")
                if not (plain or key.startswith("__") or key in ("allow_tf32", "fp32_precision")):
                    yield attribute(module, key, name)
    yield attribute(torch.utils.deterministic, "fill_uninitialized_memory")


def _of_several_values() -> Iterator[Switch]:
    """Yield the switches whose reader and writer do not match each other."""
    yield Switch("torch.set_default_device", torch.get_default_device, _set_default_device)
    yield Switch(
        "torch.use_deterministic_algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )
    yield Switch(
        "torch.autograd.set_detect_anomaly",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.autograd.set_detect_anomaly(*value),
    )
    yield Switch(
        "torch.set_flush_denormal",
        lambda: sys.float_info.min / 2 == 0,  # there is no other way to read it
        torch.set_flush_denormal,
    )
    yield Switch(
        "torch.nn.attention.activate_flash_attention_impl",
        torch.nn.attention.current_flash_attention_impl,
        _activate_flash_attention,
    )
    for kind in ("fp16", "bf16"):
        key = f"allow_{kind}_reduced_precision_reduction"
        yield Switch(
            f"torch.backends.cuda.matmul.{key}",
            getattr(torch._C, f"_get_cublas_{key}"),
            partial(setattr, torch.backends.cuda.matmul, key),
        )
    for device in ("cpu", "cuda"):
        yield Switch(
            f"torch.set_autocast_enabled of {device}",
            partial(torch.is_autocast_enabled, device),
            partial(torch.set_autocast_enabled, device),
        )
        yield Switch(
            f"torch.set_autocast_dtype of {device}",
            partial(torch.get_autocast_dtype, device),
            partial(torch.set_autocast_dtype, device),
        )


def _of_the_gpu() -> Iterator[Switch]:
    """Yield the switches of a GPU that is in use: reading them would initialise it otherwise."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for name in ("per_process_memory_fraction", "sync_debug_mode"):
            yield Switch(
                f"torch.cuda.set_{name}",
                getattr(torch.cuda, f"get_{name}"),
                getattr(torch.cuda, f"set_{name}"),
            )


def _activate_flash_attention(name: str | None) -> None:
    if name is None:
        torch.nn.attention.restore_flash_attention_impl()
    else:
        torch.nn.attention.activate_flash_attention_impl(name)


def _set_default_device(value: torch.device) -> None:
    """Set the default device; for the CPU, leave the mode that another device has entered."""
    torch.set_default_device(None if value.type == "cpu" else value)


def _lasting() -> Iterator[Switch]:
    for read, name in _LASTING:
        yield Switch(name, attrgetter(read)(torch), None)
    if (registry := sys.modules.get("torch._native.registry")) is not None:  # since torch 2.12
        filters = attrgetter("_dsl_names", "_op_symbols", "_dispatch_keys")
        yield Switch(
            "torch.backends.python_native",
            lambda: tuple(map(frozenset, filters(registry._filter_state))),
            None,
        )


def _configs() -> Iterator[Switch]:
    """Yield all values of the modules that configure `torch.compile` and its parts."""
    for name, config in sorted(sys.modules.items()):
        if isinstance(config, ConfigModule):
            yield Switch(name, config.get_config_copy, partial(_load, config))


def _load(config: ConfigModule, values: Mapping[str, Any]) -> None:
    """Set only the values that differ, since setting a deprecated one warns."""
    now = config.get_config_copy()
    config.load_config({key: value for key, value in values.items() if now[key] != value})
