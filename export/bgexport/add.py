"""Any matting network in this harness: its ONNX file is wrapped so that it has the interface of ours.

    image, uint8 RGB ── channels, range, mean, std ──► their network ── activation, channel, size ──► alpha in [0, 1]

What their own code does around the file is said by a contract, a TOML file (``Theirs``). Decoding, edges, colours,
client and benches are then the same for every network; it is asked for by name (``Client(model="modnet")``).
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bgexport import repository
from bgexport.checks import Check, require
from bgexport.engines import Run, cpu_engine
from bgexport.errors import ContractError, GraphError
from bgexport.graph import BATCH, sha256_of, stamped
from bgexport.limits import BATCH_MATE_DIFFERENCE, TOLERANCES
from bgexport.photos import NetworkInput
from bgexport.verify import alphas, batch_mates_check, parity, parity_checks
from bgimage import runtimes
from bgimage.contract import Contract

ACTIVATIONS = ("none", "sigmoid", "softmax", "minmax")
CHANNELS = ("RGB", "BGR")
LEAST_OPSET = 11
"""``Clip`` and ``Resize`` take their bounds and sizes as inputs from here on."""
_THEIRS = "theirs/"
"""Prefix of every name in their graph."""


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What a network's own code does around its ONNX file: the keys of the contract."""

    size: tuple[int, int]
    """Height and width of the input, pixels."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from the colours,"""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """and what they are divided by then."""
    range: float = 1.0
    """Colours run from 0 to this before ``mean`` and ``std``: 1 or 255."""
    channels: str = "RGB"
    """Their order, "RGB" or "BGR"."""
    fit: str = "letterbox"
    """"letterbox" keeps the photo's aspect ratio, "stretch" does not."""
    pad_value: int = Contract.pad_value
    """Grey level (0..255) of the letterbox."""
    stride: int = 32
    """Both sides of ``size`` are multiples of it."""
    input: str = ""
    """Name of the input; empty: the only one."""
    output: str = ""
    """Name of the output; empty: the first."""
    channel: int = 0
    """Of the output, where it has several."""
    activation: str = "none"
    """What makes alpha of the output: "none", "sigmoid", "softmax" over the channels, or "minmax": the least value of a
    photo becomes 0, the greatest 1."""
    licence: str = "not stated"
    """Of the weights; goes into the file's metadata."""
    source: str = "not stated"
    """Where the file comes from; goes into the file's metadata."""

    def __post_init__(self) -> None:
        """Refuse what no graph could be made of. ``ContractError`` names the key."""
        for key, known in (("activation", ACTIVATIONS), ("channels", CHANNELS)):
            if getattr(self, key) not in known:
                raise ContractError(f"{key} = {getattr(self, key)!r}: use one of {', '.join(known)}")
        if self.range <= 0:
            raise ContractError(f"range = {self.range:g}: use 1 or 255")
        for key in ("mean", "std"):
            if len(getattr(self, key)) != 3:
                raise ContractError(f"{key} has {len(getattr(self, key))} numbers, one a colour is needed")

    @classmethod
    def read(cls, path: Path) -> Theirs:
        """Parse a contract; ``ContractError`` names a key that is unknown or missing."""
        try:
            keys: dict[str, Any] = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ContractError(f"{path}: {error}") from error
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(keys.keys() - known):
            raise ContractError(
                f"{path}: unknown {', '.join(unknown)}; the keys are {', '.join(sorted(known))}"
            )
        if "size" not in keys:
            raise ContractError(f"{path}: no size; write size = [height, width]")
        for key, value in keys.items():
            keys[key] = tuple(value) if isinstance(value, list) else value
        return cls(**keys)

    def contract(self) -> Contract:
        """Ours, of the wrapped network. ``ContractError`` says what does not fit."""
        try:
            return Contract(
                size_hw=self.size,
                stride=self.stride,
                mean=tuple(value / self.range for value in self.mean),  # type: ignore[arg-type]
                std=tuple(value / self.range for value in self.std),  # type: ignore[arg-type]
                fit=self.fit,
                pad_value=self.pad_value,
            )
        except (TypeError, ValueError) as error:
            raise ContractError(str(error)) from error


def wrapped(model: onnx.ModelProto, theirs: Theirs, *, resize: bool = False) -> onnx.ModelProto:
    """One graph: uint8 (N, 3, H, W) RGB in, alpha float32 (N, 1, H, W) in [0, 1] out.

    Args:
        model: their network.
        theirs: what to put around it.
        resize: its output has another size than its input.

    Raises:
        GraphError: its opset is too old, or it has not the tensors that the contract names.
    """
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        raise GraphError(f"opset {opset}: {LEAST_OPSET} or newer is needed; export the network again")
    feed, fetch = _tensors(model, theirs)
    model = onnx.compose.add_prefix(model, _THEIRS)
    contract, body = theirs.contract(), model.graph
    std, mean = np.array(contract.std, np.float32), np.array(contract.mean, np.float32)
    constants: dict[str, NDArray[Any]] = {
        "scale": (1 / (255 * std)).reshape(1, 3, 1, 1),
        "offset": (-mean / std).reshape(1, 3, 1, 1),
        "reversed": np.array([2, 1, 0], np.int64),
        "channel": np.array([theirs.channel], np.int64),
        "photo": np.array([1, 2, 3], np.int64),
        "size": np.array(contract.size_hw, np.int64),
        "one channel": np.array([0, 1, *contract.size_hw], np.int64),
        "none": np.array([], np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "tiny": np.array(1e-6, np.float32),
    }
    nodes: list[onnx.NodeProto] = []

    def then(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"ours/{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    nodes.append(helper.make_node("Cast", [contract.input_tensor], ["ours/float"], to=TensorProto.FLOAT))
    value = then("Gather", "ours/float", "reversed", axis=1) if theirs.channels == "BGR" else "ours/float"
    value = then("Mul", value, "scale")
    value = then("Add", value, "offset")
    kind = feed.type.tensor_type.elem_type
    nodes.append(helper.make_node("Cast", [value], [_THEIRS + feed.name], to=kind))
    nodes += body.node
    nodes.append(helper.make_node("Cast", [_THEIRS + fetch.name], ["ours/answer"], to=TensorProto.FLOAT))
    value = "ours/answer"
    if theirs.activation == "softmax" and opset >= 13:
        value = then("Softmax", value, axis=1)
    elif theirs.activation == "softmax":  # whose axis meant something else
        raised = then("Exp", then("Sub", value, then("ReduceMax", value, axes=[1])))
        value = then("Div", raised, then("ReduceSum", raised, axes=[1]))
    rank = len(fetch.type.tensor_type.shape.dim)
    if rank == 4:
        value = then("Gather", value, "channel", axis=1)
    elif rank == 3:  # no axis for channels
        value = then("Reshape", value, "one channel")
    else:
        raise GraphError(f"output {fetch.name} has {rank} dimensions, (N, C, H, W) or (N, H, W) is needed")
    if theirs.activation == "sigmoid":
        value = then("Sigmoid", value)
    if theirs.activation == "minmax":
        least, most = (_reduced(then, name, value, opset) for name in ("ReduceMin", "ReduceMax"))
        spread = then("Max", then("Sub", most, least), "tiny")
        value = then("Div", then("Sub", value, least), spread)
    if resize:
        shape = then("Shape", value)
        front = then("Slice", shape, "from 0", "to 2")
        constants |= {"from 0": np.array([0], np.int64), "to 2": np.array([2], np.int64)}
        sizes = then("Concat", front, "size", axis=0)
        value = then(
            "Resize", value, "none", "none", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
        )
    nodes.append(helper.make_node("Clip", [value, "zero", "one"], [contract.output_tensor]))
    used = {name for node in nodes for name in node.input}
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    image = helper.make_tensor_value_info(
        contract.input_tensor, TensorProto.UINT8, [BATCH, 3, *contract.size_hw]
    )
    alpha = helper.make_tensor_value_info(
        contract.output_tensor, TensorProto.FLOAT, [BATCH, 1, *contract.size_hw]
    )
    graph = helper.make_graph(
        nodes,
        "bgclient",
        [image],
        [alpha],
        [*body.initializer, *weights],
        sparse_initializer=body.sparse_initializer,
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = max(model.ir_version, 4)  # initializers that are not inputs
    made.producer_name = "bgexport"
    return made


def _reduced(then: Any, operator: str, value: str, opset: int) -> str:
    """Over each photo. The axes became an input with opset 18."""
    if opset >= 18:
        return str(then(operator, value, "photo", keepdims=1))
    return str(then(operator, value, axes=[1, 2, 3], keepdims=1))


def _tensors(model: onnx.ModelProto, theirs: Theirs) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    """Their input and output. ``GraphError`` lists what there is."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {t.name: t for t in model.graph.input if t.name not in weights}
    outputs = {t.name: t for t in model.graph.output}
    if not theirs.input and len(inputs) != 1:
        raise GraphError(
            f"inputs {', '.join(inputs)}: say in the contract which one is the photo (input = ...)"
        )
    found = []
    for what, name, tensors in (("input", theirs.input, inputs), ("output", theirs.output, outputs)):
        name = name or next(iter(tensors))
        if name not in tensors:
            raise GraphError(f"there is no {what} {name!r}; the network has {', '.join(tensors)}")
        found.append(tensors[name])
    return found[0], found[1]


def theirs_engine(model: Path, theirs: Theirs) -> Run:
    """Their file in ONNX Runtime, a photo at a time, what the contract says computed outside of it: the reference."""
    session = runtimes.session(model)
    feed, fetch = _tensors(onnx.load(model, load_external_data=False), theirs)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (theirs.mean, theirs.std))
    kind = helper.tensor_dtype_to_np_dtype(feed.type.tensor_type.elem_type)

    def one(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        colours = image[None].astype(np.float32) / 255 * np.float32(theirs.range)
        if theirs.channels == "BGR":
            colours = colours[:, ::-1]
        (answer,) = session.run([fetch.name], {feed.name: ((colours - mean) / std).astype(kind)})
        answer = answer.astype(np.float32)
        if theirs.activation == "softmax":
            raised = np.exp(answer - answer.max(1, keepdims=True))
            answer = raised / raised.sum(1, keepdims=True)
        plane = answer[0, theirs.channel] if answer.ndim == 4 else answer[0]
        if theirs.activation == "sigmoid":
            plane = 1 / (1 + np.exp(-plane))
        if theirs.activation == "minmax":
            plane = (plane - plane.min()) / max(plane.max() - plane.min(), 1e-6)
        if plane.shape != theirs.size:
            import cv2

            plane = cv2.resize(plane, theirs.size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(plane.clip(0, 1), np.float32)[None]

    return lambda images: np.stack([one(image) for image in images])


@dataclass(frozen=True)
class Added:
    """What was written."""

    names: repository.Names
    files: list[Path]
    checks: list[Check]
    max_batch_size: int
    """1 where the network's answer depends on how many photos it is given."""


def name_of(name: str) -> str:
    """A name that can be part of a model's. ``ContractError`` where it cannot."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "tiramisu":
        raise ContractError(
            f"name {name!r}: use small letters, digits and _, a letter first, and not tiramisu"
        )
    return name


def add(
    network: Path,
    theirs: Theirs,
    name: str,
    pictures: Sequence[NetworkInput],
    *,
    models: Path,
    serving: repository.Serving,
) -> Added:
    """Put a network into the repository, with ensembles around it. Nothing changes where a check fails.

    Args:
        network: their ONNX file.
        theirs: what their own code does around it.
        name: what it is asked for by.
        pictures: what the wrapped network is compared with the bare one on.
        models: the model repository.
        serving: batch size and instances.

    Raises:
        ExportError: one of its kinds says what does not fit.
    """
    names, contract = repository.Names(name_of(name)), theirs.contract()
    model = onnx.load(network)
    target = models / names.onnx / "1" / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    try:
        run = _loaded(model, theirs, new)
        checks = parity_checks(
            parity(
                alphas(theirs_engine(network, theirs), pictures, batch=1),
                alphas(run, pictures, batch=1),
            ),
            TOLERANCES["wrapped"],
            f"{name} wrapped, against the bare file",
        )
        require(checks)
        batches = _takes_batches(run, pictures, name)
        batch = serving.max_batch_size if batches else 1
        made = stamped(
            onnx.load(new),
            contract,
            network=name,
            precision="fp32",
            licence=theirs.licence,
            source=theirs.source,
            source_sha256=sha256_of(network),
            max_batch_size=str(batch),
        )
        new.write_bytes(made.SerializeToString(deterministic=True))
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        if not target.exists():
            shutil.rmtree(models / names.onnx)
        raise
    ours = repository.Names()
    files = [target]
    for source, copy in ((ours.preprocess, names.preprocess), (ours.postprocess, names.postprocess)):
        file = models / copy / "1" / "model.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(models / source / "1" / "model.py", file)
        files.append(file)
    files += repository.write(models, contract, repository.limited(serving, made), names)
    return Added(names, files, checks, batch)


def _loaded(model: onnx.ModelProto, theirs: Theirs, path: Path) -> Run:
    """The wrapped network, written to ``path`` and loaded; enlarged where its answer is smaller than its input."""
    contract = theirs.contract()
    blank = np.zeros((1, 3, *contract.size_hw), np.uint8)
    for resize in (False, True):
        onnx.save(wrapped(model, theirs, resize=resize), path)
        try:
            run = cpu_engine("ONNX Runtime", path)
            shape = run(blank).shape
        except Exception as error:  # ONNX Runtime's own kinds
            raise GraphError(f"ONNX Runtime refuses it: {str(error).strip().splitlines()[0]}") from error
        if shape == (1, 1, *contract.size_hw):
            return run
    raise GraphError(
        f"the output has shape {shape}, (1, 1, {contract.size_hw[0]}, {contract.size_hw[1]}) is needed"
    )


def _takes_batches(run: Run, pictures: Sequence[NetworkInput], name: str) -> bool:
    """Photos in a batch are answered as they are alone."""
    try:
        check = batch_mates_check(run, pictures[:4], name)
    except Exception:  # a fixed batch of 1 somewhere inside
        return False
    return check.value <= BATCH_MATE_DIFFERENCE
