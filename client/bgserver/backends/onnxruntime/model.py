"""Triton's ``onnxruntime`` backend in Python, for servers that come without the C++ one (nvidia-pytriton).

The model repository does not change: Triton takes a backend's shared library where there is one, this file
where not. Parameters of the configuration: ``engine`` (see ``bgserver.engines``; BGSERVER_ENGINE wins) and
``intra_op_thread_count`` (BGSERVER_THREADS wins).
"""

import json
import os
from pathlib import Path

import triton_python_backend_utils as pb_utils

from bgserver import answers, batches, engines, strict
from bgserver.errors import EngineMissing
from bgserver.meters import Meters


def _refused(error):
    message = error.message() if isinstance(error, EngineMissing) else str(error)
    return pb_utils.TritonModelException(message)


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        config = auto_complete_model_config.as_dict()
        network = Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")
        engine = engines.onnxruntime_engine(network, threads=1)
        found = strict.missing(config, engine.inputs, engine.outputs)
        if "max_batch_size" in found:
            auto_complete_model_config.set_max_batch_size(found["max_batch_size"])
            auto_complete_model_config.set_dynamic_batching()
        for entry in found.get("input", ()):
            auto_complete_model_config.add_input(entry)
        for entry in found.get("output", ()):
            auto_complete_model_config.add_output(entry)
        return auto_complete_model_config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        threads = int(os.environ.get("BGSERVER_THREADS") or parameters.get("intra_op_thread_count") or 0)
        folder = Path(args["model_repository"]) / args["model_version"]
        kept = os.environ.get("BGSERVER_MEASURED")  # a folder; where a keeper may start the server again
        try:
            engine, why = engines.load(
                folder / (config.get("default_model_filename") or "model.onnx"),
                os.environ.get("BGSERVER_ENGINE") or parameters.get("engine", "auto"),
                threads=threads,
                cuda_device=int(args["model_instance_device_id"])
                if args["model_instance_kind"] == "GPU"
                else None,
                measured=Path(kept, f"{args['model_name']}-{args['model_version']}") if kept else None,
            )
            strict.check(config, engine.inputs, engine.outputs)
        except (EngineMissing, strict.ConfigError) as error:
            raise _refused(error) from error
        self.run = engine.run
        if megabytes := int(os.environ.get("BGSERVER_CACHE_MB") or 0):
            meters = Meters(pb_utils.MetricFamily, args["model_name"])
            self.run = answers.Answers(self.run, megabytes * 10**6, meters.kept_answers)
        self.inputs = [entry["name"] for entry in config["input"]]
        pb_utils.Logger.log_info(f"{args['model_instance_name']}: {engine.name} ({why})")

    def execute(self, requests):
        return batches.execute(pb_utils, requests, self.inputs, self.run)
