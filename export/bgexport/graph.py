"""A checkpoint as one ONNX file: uint8 photo in, alpha out, contract and provenance in its metadata."""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from bgexport.errors import ContractError, GraphError
from bgimage.contract import Contract

if TYPE_CHECKING:
    import torch

OPSET = 18
"""The newest that every reader of our files knows: TensorRT 10.0 and 11, ONNX Runtime from 1.14, OpenVINO,
onnxruntime-web; and the one that PyTorch's exporter writes without converting."""

BATCH = "batch"
"""Name of the dynamic axis."""


def export_graph(net: torch.nn.Module, contract: Contract, *, dynamic_size: bool = False) -> onnx.ModelProto:
    """The FP32 graph of ``net`` with a dynamic batch (``dynamic_size``: any multiple of the stride as well).

    PyTorch's exporter already runs onnxscript's optimizer, which folds constants and every batch normalisation
    that follows a convolution. onnxslim finds nothing more to do in these networks (same nodes, same speed), so
    it is not a dependency. What the exporter leaves behind is the machine's paths, in a stack trace a node:
    ``cleaned`` drops them.
    """
    import torch

    from bgtrain.networks import ServedModule

    height, width = contract.size_hw
    axes: dict[int, torch.export.Dim] = {0: torch.export.Dim(BATCH, min=1, max=1024)}
    if dynamic_size:
        rows, columns = (torch.export.Dim(name, min=2, max=128) for name in ("rows", "columns"))
        axes |= {2: contract.stride * rows, 3: contract.stride * columns}
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level, logger.level = logger.level, logging.ERROR  # it warns about torchvision, which nothing here uses
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(
                ServedModule(net, contract),
                (example,),
                input_names=[contract.input_tensor],
                output_names=[contract.output_tensor],
                dynamic_shapes={"image": axes},
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.level = level
    assert program is not None  # dynamo=True always gives a program
    return cleaned(program.model_proto)


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what no engine reads: stack traces, node metadata, doc strings, inner shapes."""
    lean = onnx.ModelProto()
    lean.CopyFrom(model)
    graph = lean.graph
    del graph.value_info[:], graph.metadata_props[:]
    graph.doc_string = lean.doc_string = ""
    graph.name = "bgclient"
    for holder in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    return lean


def stamped(model: onnx.ModelProto, contract: Contract, **facts: str) -> onnx.ModelProto:
    """``model``, its metadata now the contract, its fingerprint and ``facts`` (network, precision, hashes)."""
    properties = {p.key: p.value for p in model.metadata_props}
    properties |= {"contract": contract.to_json(), "contract_fingerprint": contract.fingerprint, **facts}
    onnx.helper.set_model_props(model, dict(sorted(properties.items())))
    return model


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The file's metadata properties."""
    return {p.key: p.value for p in model.metadata_props}


def contract_of(model: onnx.ModelProto) -> Contract:
    """The contract in the metadata. ``ContractError``: there is none, or its fingerprint is another."""
    facts = metadata(model)
    if "contract" not in facts:
        raise ContractError(
            'the ONNX file has no "contract" in its metadata; export it with python -m bgexport onnx'
        )
    contract = Contract.from_json(facts["contract"])
    if facts.get("contract_fingerprint") != contract.fingerprint:
        raise ContractError(
            f"the file's contract_fingerprint is {facts.get('contract_fingerprint')}, "
            f"its contract's is {contract.fingerprint}; export it again"
        )
    return contract


def check_graph(model: onnx.ModelProto, contract: Contract) -> None:
    """Refuse a file that the servers could not take as the contract's network. ``GraphError``, ``ContractError``."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(str(error).strip().splitlines()[0]) from error
    if (found := contract_of(model)) != contract:
        raise ContractError(f"the file holds contract {found.fingerprint}, expected {contract.fingerprint}")
    expected = {
        contract.input_tensor: (TensorProto.UINT8, 3, model.graph.input),
        contract.output_tensor: (TensorProto.FLOAT, 1, model.graph.output),
    }
    for name, (kind, channels, tensors) in expected.items():
        if [t.name for t in tensors] != [name]:
            raise GraphError(f"tensors {[t.name for t in tensors]}: the contract names only {name!r}")
        shape = [d.dim_value or d.dim_param for d in tensors[0].type.tensor_type.shape.dim]
        wanted: list[object] = [BATCH, channels, *contract.size_hw]
        fits = len(shape) == 4 and all(
            s == w or isinstance(s, str) for s, w in zip(shape, wanted, strict=True)
        )
        if tensors[0].type.tensor_type.elem_type != kind or not fits or not isinstance(shape[0], str):
            got = TensorProto.DataType.Name(tensors[0].type.tensor_type.elem_type)
            raise GraphError(f"{name}: {got} {shape}, expected {TensorProto.DataType.Name(kind)} {wanted}")
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    unfolded = [
        n.name
        for n in model.graph.node
        if n.op_type == "BatchNormalization" and makers.get(n.input[0]) == "Conv"
    ]
    if unfolded:
        raise GraphError(
            f"{len(unfolded)} batch normalisations were not folded into their convolutions: {unfolded}"
        )


def description(model: onnx.ModelProto, path: Path) -> dict[str, object]:
    """What is in an ONNX file, by name: metadata, tensors, operators, weights by type."""
    tensors = {
        t.name: f"{TensorProto.DataType.Name(t.type.tensor_type.elem_type)} "
        f"{[d.dim_value or d.dim_param for d in t.type.tensor_type.shape.dim]}"
        for t in (*model.graph.input, *model.graph.output)
    }
    operators = Counter(node.op_type for node in model.graph.node)
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        weights[TensorProto.DataType.Name(tensor.data_type)] += math.prod(tensor.dims)
    return {
        **metadata(model),
        **tensors,
        "size": f"{path.stat().st_size:,} bytes",
        "sha256": sha256_of(path),
        "opset": model.opset_import[0].version,
        "operators": ", ".join(f"{name} {count}" for name, count in operators.most_common()),
        "values in weights": ", ".join(f"{name} {count:,}" for name, count in weights.most_common()),
    }


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
