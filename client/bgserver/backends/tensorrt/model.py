"""Triton's ``tensorrt`` backend in Python, for servers that come without the C++ one (nvidia-pytriton).

It refuses a plan whose record does not fit this machine, and configurations that do not fit the plan. Needs
the packages ``tensorrt`` and ``cuda-python``. Buffers for the largest batch are taken once, on one stream;
Triton runs one batch at a time in each instance.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from bgserver import batches, engines, plans, strict
from bgserver.errors import EngineMissing, PlanRefused


def _cuda(result):
    """The value of a call to the CUDA runtime, or its error as an exception."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"CUDA: {status.name}")
    return values[0] if values else None


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        device = int(args["model_instance_device_id"])
        plan = Path(args["model_repository"]) / args["model_version"]
        plan /= config.get("default_model_filename") or "model.plan"
        try:
            if args["model_instance_kind"] != "GPU":
                raise EngineMissing("a TensorRT plan runs on a GPU only; use KIND_GPU, or the variant cpu")
            tensorrt = engines.require("tensorrt", "tensorrt", "tensorrt")
            machine = plans.Machine.here(tensorrt.__version__)
            plans.check(plan, machine, contract_fingerprint=parameters.get("contract_fingerprint"))
            self.engine = PlanEngine(plan, device, config["max_batch_size"])
            strict.check(config, self.engine.inputs, self.engine.outputs)
        except (EngineMissing, PlanRefused) as error:
            raise pb_utils.TritonModelException(error.message()) from error
        except strict.ConfigError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.inputs = [entry["name"] for entry in config["input"]]

    def execute(self, requests):
        return batches.execute(pb_utils, requests, self.inputs, self.engine.run)


class PlanEngine:
    """A deserialised plan with its buffers."""

    def __init__(self, path, device, largest):
        import tensorrt as trt
        from cuda.bindings import runtime

        self.cuda = runtime
        _cuda(runtime.cudaSetDevice(device))
        engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise PlanRefused(
                f"TensorRT cannot read {path.name}; build it again with `python -m bgexport plan`"
            )
        self.engine = engine  # the context does not keep it alive
        self.context = engine.create_execution_context()
        self.stream = _cuda(runtime.cudaStreamCreate())
        self.inputs, self.outputs, self.buffers, self.dtypes = {}, {}, {}, {}
        for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
            shape = tuple(engine.get_tensor_shape(name))
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            kind = {"uint8": "UINT8", "float32": "FP32", "float16": "FP16", "int32": "INT32"}[dtype.name]
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.inputs if is_input else self.outputs)[name] = strict.TensorSpec(f"TYPE_{kind}", shape)
            size = dtype.itemsize * int(np.prod([largest, *shape[1:]]))
            self.buffers[name], self.dtypes[name] = _cuda(runtime.cudaMalloc(size)), dtype
            self.context.set_tensor_address(name, self.buffers[name])

    def run(self, feeds, wanted):
        cuda, stream = self.cuda, self.stream
        for name, array in feeds.items():
            self.context.set_input_shape(name, array.shape)
            _cuda(
                cuda.cudaMemcpyAsync(
                    self.buffers[name],
                    array.ctypes.data,
                    array.nbytes,
                    cuda.cudaMemcpyKind.cudaMemcpyHostToDevice,
                    stream,
                )
            )
        if not self.context.execute_async_v3(stream):
            raise RuntimeError("TensorRT did not run; see the log above")
        answers = []
        for name in wanted:
            answer = np.empty(tuple(self.context.get_tensor_shape(name)), self.dtypes[name])
            _cuda(
                cuda.cudaMemcpyAsync(
                    answer.ctypes.data,
                    self.buffers[name],
                    answer.nbytes,
                    cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost,
                    stream,
                )
            )
            answers.append(answer)
        _cuda(cuda.cudaStreamSynchronize(stream))
        return answers
