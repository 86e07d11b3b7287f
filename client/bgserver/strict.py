"""A model's configuration held against the network's file, with the checks and the words of NVIDIA's C++
backends.

A Python-based backend that leaves this out loads a model whose output is misnamed and says READY. The wording
follows onnxruntime_backend (``ValidateInputs``, ``ValidateOutputs``) and backend_common
(``CheckAllowedModelInput``), so that a search for the message finds the same advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ConfigError(ValueError):
    """The configuration and the network do not fit; the message is Triton's."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the network's file has it."""

    datatype: str
    """Triton's name: "TYPE_UINT8", "TYPE_FP32", ..."""
    dims: tuple[int, ...]
    """With the batch dimension; -1 where it varies."""


def _shape(dims: Sequence[int]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _check_dims(
    model: str, name: str, has: tuple[int, ...], dims: Sequence[int], *, batching: bool, exact: bool
) -> None:
    where = f"model '{model}', tensor '{name}': "
    if batching and (not has or has[0] != -1):
        raise ConfigError(
            f"{where}for the model to support batching the shape should have at least 1 dimension and the "
            f"first dimension must be -1; but shape expected by the model is {_shape(has)}"
        )
    full = [-1, *dims] if batching else list(dims)
    if len(has) == len(full) and all(
        h == f or (h == -1 and not exact) for h, f in zip(has, full, strict=True)
    ):
        return
    reason = (
        " (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
        f"making complete shape {_shape(full)})"
        if batching
        else f" (shape {_shape(full)})"
    )
    raise ConfigError(
        f"{where}the model expects {len(has)} dimensions (shape {_shape(has)}) but the model configuration "
        f"specifies {len(full)} dimensions{reason}"
    )


def check(
    config: Mapping[str, Any], inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Compare ``config`` (Triton's model configuration as a dictionary) with the network.

    Raises:
        ConfigError: they do not fit.
    """
    model = config["name"]
    if len(config["input"]) != len(inputs):
        raise ConfigError(
            f"unable to load model '{model}', configuration expects {len(config['input'])} inputs, "
            f"model provides {len(inputs)}"
        )
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for io in config[kind]:
            name, datatype = io["name"], io["data_type"]
            if name not in tensors:
                raise ConfigError(
                    f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(sorted(tensors))}"
                )
            if datatype != tensors[name].datatype:
                raise ConfigError(
                    f"unable to load model '{model}', configuration expects datatype {datatype} for {kind} "
                    f"'{name}', model provides {tensors[name].datatype}"
                )
            dims = [int(d) for d in (io["reshape"]["shape"] if "reshape" in io else io["dims"])]
            _check_dims(
                model,
                name,
                tensors[name].dims,
                dims,
                batching=config["max_batch_size"] > 0,
                exact=kind == "output",
            )


def missing(
    config: Mapping[str, Any], inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> dict[str, Any]:
    """What auto-completion has to add to ``config``: ``input`` and ``output`` entries and ``max_batch_size``.

    As in the C++ backend: whatever the configuration says itself stays; a network whose every first dimension
    varies is given batches of up to 4.
    """
    batching = all(t.dims and t.dims[0] == -1 for t in (*inputs.values(), *outputs.values()))
    found: dict[str, Any] = {}
    if (
        config.get("max_batch_size", 0) == 0
        and batching
        and not (config.get("input") or config.get("output"))
    ):
        found["max_batch_size"] = 4
    skip = 1 if config.get("max_batch_size", 0) > 0 or "max_batch_size" in found else 0
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if not config.get(kind):
            found[kind] = [
                {"name": n, "data_type": t.datatype, "dims": list(t.dims[skip:])} for n, t in tensors.items()
            ]
    return found
