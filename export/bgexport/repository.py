"""Every ``config.pbtxt`` of the model repository, rendered from the contract and ``serving.toml``.

One repository serves three variants; Triton's ``--model-config-name`` chooses:

    (none)   ONNX Runtime on the GPU      config.pbtxt
    cpu      ONNX Runtime on the CPU      configs/cpu.pbtxt where it differs
    trt      TensorRT on the GPU          configs/trt.pbtxt of the ensembles, which then call tiramisu_trt

The ensembles keep their names and tensors in all three: a caller never knows which network answered. Only fields that
tritonserver 2.51 (the pip-installed one) knows are used, and no queue policies: in 2.51 they stall the batcher for
half a second (triton-inference-server/server#8870).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from bgexport.errors import RepositoryDiffers
from bgimage.contract import Contract

_INSTALLED = Path(__file__).with_name("serving.toml")
SERVING = _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[1] / "serving.toml"
"""In the wheel beside this file, in a checkout beside this package."""
VARIANTS = {"onnx-gpu": None, "cpu": "cpu", "trt": "trt"}
"""Variant to ``--model-config-name``."""
ONNX_NETWORK, TRT_NETWORK = "tiramisu_onnx", "tiramisu_trt"
HEADER = (
    "# Rendered by `python -m bgexport repository` from the contract and export/serving.toml; do not edit.\n"
)


@dataclass(frozen=True, kw_only=True)
class Instances:
    """How many copies of each model run side by side."""

    network: int
    preprocess: int
    postprocess: int

    def __post_init__(self) -> None:
        """Refuse a count that serves nobody."""
        for name, count in vars(self).items():
            if count < 1:
                raise ValueError(f"instances of {name}: {count}; use 1 or more")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """``serving.toml``."""

    max_batch_size: int
    """Largest batch of one execution of the network, and largest profile of a plan."""
    opt_batch_size: int
    """The batch for which TensorRT tunes."""
    max_queue_delay_us: int
    """How long a photo waits for batch mates, microseconds."""
    max_photos: int
    """Most photos in one request to an ensemble."""
    gpu: Instances
    cpu: Instances

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other."""
        if not 1 <= self.opt_batch_size <= self.max_batch_size:
            raise ValueError(
                f"opt_batch_size={self.opt_batch_size}: use 1..max_batch_size={self.max_batch_size}"
            )
        if not 1 <= self.max_photos <= self.max_batch_size:
            raise ValueError(
                f"photos.max_batch_size={self.max_photos}: use 1..{self.max_batch_size} (the network's)"
            )
        if self.max_queue_delay_us < 0:
            raise ValueError(f"max_queue_delay_us={self.max_queue_delay_us}: use 0 or more")

    @classmethod
    def read(cls, path: Path = SERVING) -> Serving:
        """Parse the file; ``KeyError`` or ``TypeError`` names a missing or an unknown knob."""
        knobs = tomllib.loads(path.read_text())
        return cls(
            **knobs["network"],
            max_photos=knobs["photos"]["max_batch_size"],
            **{kind: Instances(**counts) for kind, counts in knobs["instances"].items()},
        )

    @property
    def profile(self) -> tuple[int, int, int]:
        """Smallest, tuned and largest batch of a TensorRT plan."""
        return 1, self.opt_batch_size, self.max_batch_size


def render(contract: Contract, serving: Serving) -> dict[str, str]:
    """Path inside the repository to content, for every config file of every variant."""
    gpu = pb.ModelInstanceGroup.KIND_GPU
    cpu = pb.ModelInstanceGroup.KIND_CPU
    files = {
        f"{ONNX_NETWORK}/config.pbtxt": _network(contract, serving, "onnxruntime_onnx", gpu),
        f"{ONNX_NETWORK}/configs/cpu.pbtxt": _network(contract, serving, "onnxruntime_onnx", cpu),
        f"{TRT_NETWORK}/config.pbtxt": _network(contract, serving, "tensorrt_plan", gpu),
    }
    for name, instances in (("config", serving.gpu), ("configs/cpu", serving.cpu)):
        files[f"preprocess/{name}.pbtxt"] = _preprocess(contract, serving, instances.preprocess)
        files[f"postprocess/{name}.pbtxt"] = _postprocess(contract, serving, instances.postprocess)
    for ensemble in (_cutout, _matte):
        for name, network in (("config", ONNX_NETWORK), ("configs/trt", TRT_NETWORK)):
            config = ensemble(contract, serving, network)
            files[f"{config.name}/{name}.pbtxt"] = config
    return {path: HEADER + _text(config) for path, config in sorted(files.items())}


def write(repository: Path, contract: Contract, serving: Serving) -> list[Path]:
    """Write every config file, and the empty version folder that Triton wants of an ensemble; the files changed."""
    changed = []
    for name, text in render(contract, serving).items():
        path = repository / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(path)
    for ensemble in ("cutout", "matte"):
        keep = repository / ensemble / "1" / ".gitkeep"  # git keeps no empty folder
        keep.parent.mkdir(exist_ok=True)
        keep.touch()
    return changed


def check(repository: Path, contract: Contract, serving: Serving) -> None:
    """``RepositoryDiffers`` names the files that are not what ``render`` gives, and those that it does not give."""
    rendered = render(contract, serving)
    found = {str(p.relative_to(repository)): p.read_text() for p in repository.rglob("*.pbtxt")}
    wrong = sorted(name for name in rendered.keys() | found.keys() if rendered.get(name) != found.get(name))
    if wrong:
        raise RepositoryDiffers(f"{', '.join(wrong)} in {repository}; run python -m bgexport repository")


# --- the models --------------------------------------------------------------------------------------------------


def _network(contract: Contract, serving: Serving, platform: str, kind: int) -> pb.ModelConfig:
    instances = serving.gpu if kind == pb.ModelInstanceGroup.KIND_GPU else serving.cpu
    image = _tensor(pb.ModelInput, contract.input_tensor, pb.TYPE_UINT8, [3, *contract.size_hw])
    # the first execution of a shape is the slow one (allocation, kernel choice): before READY, not in a request;
    # the largest batch also takes all the memory there will ever be need of
    warm = (1, serving.max_batch_size)
    return pb.ModelConfig(
        name=TRT_NETWORK if platform == "tensorrt_plan" else ONNX_NETWORK,
        platform=platform,
        max_batch_size=serving.max_batch_size,
        input=[image],
        output=[_alpha(contract)],
        instance_group=[_instances(instances.network, kind)],
        dynamic_batching=pb.ModelDynamicBatching(max_queue_delay_microseconds=serving.max_queue_delay_us),
        model_warmup=[
            pb.ModelWarmup(
                name=f"batch of {batch}",
                batch_size=batch,
                inputs={
                    image.name: pb.ModelWarmup.Input(
                        data_type=image.data_type, dims=image.dims, random_data=True
                    )
                },
            )
            for batch in warm
        ],
        parameters=_parameters(contract),
    )


def _preprocess(contract: Contract, serving: Serving, instances: int) -> pb.ModelConfig:
    return _python(
        "preprocess",
        contract,
        serving,
        instances,
        inputs=[_photo()],
        outputs=[_tensor(pb.ModelOutput, contract.input_tensor, pb.TYPE_UINT8, [3, *contract.size_hw])],
    )


def _pictures() -> list[Any]:
    """The finished picture, and JSON of what is known about it: people's box and confidence."""
    return [_tensor(pb.ModelOutput, name, pb.TYPE_STRING, [1]) for name in ("cutout", "facts")]


def _postprocess(contract: Contract, serving: Serving, instances: int) -> pb.ModelConfig:
    return _python(
        "postprocess",
        contract,
        serving,
        instances,
        inputs=[
            _photo(),
            _tensor(pb.ModelInput, contract.output_tensor, pb.TYPE_FP32, [1, *contract.size_hw]),
            _options(),
        ],
        outputs=_pictures(),
    )


def _python(
    name: str, contract: Contract, serving: Serving, instances: int, *, inputs: list[Any], outputs: list[Any]
) -> pb.ModelConfig:
    # no dynamic batching: photos differ in size, so joining requests saves nothing and makes the first wait
    return pb.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=serving.max_photos,
        input=inputs,
        output=outputs,
        instance_group=[_instances(instances, pb.ModelInstanceGroup.KIND_CPU)],
        parameters=_parameters(contract),
    )


# --- the ensembles, the public names ------------------------------------------------------------------------------


def _cutout(contract: Contract, serving: Serving, network: str) -> pb.ModelConfig:
    steps = [
        *_to_alpha(contract, network),
        _step("postprocess", ["photo", contract.output_tensor, "options"], ["cutout", "facts"]),
    ]
    return _ensemble("cutout", contract, serving, steps, [_photo(), _options()], _pictures())


def _matte(contract: Contract, serving: Serving, network: str) -> pb.ModelConfig:
    return _ensemble("matte", contract, serving, _to_alpha(contract, network), [_photo()], [_alpha(contract)])


def _to_alpha(contract: Contract, network: str) -> list[pb.ModelEnsembling.Step]:
    image, alpha = contract.input_tensor, contract.output_tensor
    return [_step("preprocess", ["photo"], [image]), _step(network, [image], [alpha])]


def _ensemble(
    name: str, contract: Contract, serving: Serving, steps: list[Any], inputs: list[Any], outputs: list[Any]
) -> pb.ModelConfig:
    return pb.ModelConfig(
        name=name,
        platform="ensemble",
        max_batch_size=serving.max_photos,
        input=inputs,
        output=outputs,
        ensemble_scheduling=pb.ModelEnsembling(step=steps),
        parameters=_parameters(contract),
    )


def _step(model: str, inputs: list[str], outputs: list[str]) -> pb.ModelEnsembling.Step:
    """A tensor has one name in every model, so the maps map each name to itself."""
    return pb.ModelEnsembling.Step(
        model_name=model,
        model_version=-1,
        input_map={name: name for name in inputs},
        output_map={name: name for name in outputs},
    )


# --- parts -------------------------------------------------------------------------------------------------------


def _tensor(kind: Any, name: str, data_type: int, dims: list[int], **more: bool) -> Any:
    return kind(name=name, data_type=data_type, dims=dims, **more)


def _photo() -> pb.ModelInput:
    """An encoded photo, JPEG, PNG, WebP ..."""
    return _tensor(pb.ModelInput, "photo", pb.TYPE_STRING, [1])


def _options() -> pb.ModelInput:
    """JSON of ``bgimage.options.Options``; without it the defaults."""
    return _tensor(pb.ModelInput, "options", pb.TYPE_STRING, [1], optional=True)


def _alpha(contract: Contract) -> pb.ModelOutput:
    return _tensor(pb.ModelOutput, contract.output_tensor, pb.TYPE_FP32, [1, *contract.size_hw])


def _instances(count: int, kind: int) -> pb.ModelInstanceGroup:
    return pb.ModelInstanceGroup(count=count, kind=kind)


def _parameters(contract: Contract) -> dict[str, pb.ModelParameter]:
    return {
        "contract": pb.ModelParameter(string_value=contract.to_json()),
        "contract_fingerprint": pb.ModelParameter(string_value=contract.fingerprint),
    }


def _text(config: pb.ModelConfig) -> str:
    return text_format.MessageToString(config, use_short_repeated_primitives=True)
