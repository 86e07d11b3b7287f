"""Every ``config.pbtxt`` of the model repository, rendered from the contracts of its networks and ``serving.toml``.

The folder loads as it stands: ``tritonserver --model-repository=model_repository``. Triton's ``--model-config-name``
chooses another variant of the same models:

    (none)   ONNX Runtime where Triton places it: on a GPU where there is one, else on the CPU
    cpu      ONNX Runtime on the CPU, and no more processes than a CPU can use   configs/cpu.pbtxt
    gpu      ONNX Runtime on the GPU, or an error                                configs/gpu.pbtxt
    trt      TensorRT on the GPU                                                 configs/trt.pbtxt

The last one exists where a plan was built (``tiramisu_trt/1/model.plan``) and nowhere else: a model without a version
would keep the server from starting. The ensembles keep their names and tensors in all variants.

Only fields that tritonserver 2.51 (the pip-installed one) knows are used unless a newer server is named, and no queue
policies: in 2.51 they stall the batcher for half a second (triton-inference-server/server#8870).
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from bgexport.errors import OutOfDate
from bgimage.contract import Contract
from bgserver.versions import MAX_INFLIGHT_REQUESTS, OLDEST, Version

if TYPE_CHECKING:
    import onnx

SERVING = Path(__file__).parents[1] / "serving.toml"
"""Beside this package."""
HEADER = (
    "# Rendered by `python -m bgexport repository` from the contract and export/serving.toml; do not edit.\n"
)


@dataclass(frozen=True)
class Names:
    """What the models of one network are called. A shared server may hold other models too."""

    network: str = ""
    """Empty: the network of this project. Others are asked for by it (``Client(model="modnet")``)."""

    def _suffixed(self, name: str) -> str:
        return f"{name}_{self.network}" if self.network else name

    @property
    def onnx(self) -> str:
        """The network in ONNX Runtime."""
        return f"{self.network or 'tiramisu'}_onnx"

    @property
    def trt(self) -> str:
        """The network as a TensorRT plan."""
        return f"{self.network or 'tiramisu'}_trt"

    @property
    def preprocess(self) -> str:
        """Python: photo to what the network sees."""
        return self._suffixed("bgclient_preprocess")

    @property
    def postprocess(self) -> str:
        """Python: alpha and photo to the finished picture."""
        return self._suffixed("bgclient_postprocess")

    @property
    def cutout(self) -> str:
        """Ensemble: photo to the finished picture."""
        return self._suffixed("cutout")

    @property
    def matte(self) -> str:
        """Ensemble: photo to alpha."""
        return self._suffixed("matte")


ONNX_NETWORK, TRT_NETWORK = Names().onnx, Names().trt


@dataclass(frozen=True, kw_only=True)
class Instances:
    """How many copies of each model run side by side."""

    network: int
    preprocess: int
    postprocess: int

    def __post_init__(self) -> None:
        """Refuse a count below one."""
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
    max_inflight: int
    """Requests that one step of an ensemble may have at work or waiting, where the server has such a limit."""
    auto: Instances
    """Of the default, which must suit both kinds of machine."""
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
        if self.max_inflight < 1:
            raise ValueError(f"photos.max_inflight={self.max_inflight}: use 1 or more")
        if self.max_queue_delay_us < 0:
            raise ValueError(f"max_queue_delay_us={self.max_queue_delay_us}: use 0 or more")

    @classmethod
    def read(cls, path: Path = SERVING) -> Serving:
        """Parse the file; ``KeyError`` or ``TypeError`` names a missing or an unknown knob."""
        knobs = tomllib.loads(path.read_text())
        instances: dict[str, Any] = {kind: Instances(**counts) for kind, counts in knobs["instances"].items()}
        return cls(
            **knobs["network"],
            max_photos=knobs["photos"]["max_batch_size"],
            max_inflight=knobs["photos"]["max_inflight"],
            **instances,
        )

    @property
    def profile(self) -> tuple[int, int, int]:
        """Smallest, tuned and largest batch of a TensorRT plan."""
        return 1, self.opt_batch_size, self.max_batch_size


def render(
    contract: Contract,
    serving: Serving,
    names: Names | None = None,
    *,
    trt: bool = False,
    triton: Version = OLDEST,
) -> dict[str, str]:
    """Path inside the repository to content, for every config file of one network.

    Args:
        contract: the network's.
        serving: batch sizes, instances, limits.
        names: of the models; None: those of this project's network.
        trt: it has a plan.
        triton: the server's version; fields that it does not know are left out.
    """
    names = names or Names()
    group = pb.ModelInstanceGroup
    kinds = {
        "config": (group.KIND_AUTO, serving.auto),
        "configs/cpu": (group.KIND_CPU, serving.cpu),
        "configs/gpu": (group.KIND_GPU, serving.gpu),
    }
    files = {
        f"{names.onnx}/{file}.pbtxt": _network(contract, serving, names.onnx, kind, counts.network)
        for file, (kind, counts) in kinds.items()
    }
    if trt:
        kinds["configs/trt"] = kinds["configs/gpu"]
        files[f"{names.trt}/config.pbtxt"] = _network(
            contract, serving, names.trt, group.KIND_GPU, serving.gpu.network
        )
    for file, (_, counts) in kinds.items():
        files[f"{names.preprocess}/{file}.pbtxt"] = _preprocess(contract, serving, names, counts.preprocess)
        files[f"{names.postprocess}/{file}.pbtxt"] = _postprocess(
            contract, serving, names, counts.postprocess
        )
    for ensemble in (_cutout, _matte):
        for file, network in (("config", names.onnx), ("configs/trt", names.trt))[: 1 + trt]:
            config = ensemble(contract, serving, names, network)
            if triton >= MAX_INFLIGHT_REQUESTS:
                config.ensemble_scheduling.max_inflight_requests = serving.max_inflight
            files[f"{config.name}/{file}.pbtxt"] = config
    return {path: HEADER + _text(config) for path, config in sorted(files.items())}


def has_plan(repository: Path, names: Names) -> bool:
    """A TensorRT plan lies in the repository."""
    return any((repository / names.trt).glob("*/model.plan"))


def write(
    repository: Path,
    contract: Contract,
    serving: Serving,
    names: Names | None = None,
    *,
    triton: Version = OLDEST,
) -> list[Path]:
    """Write every config file, and the empty version folder that Triton wants of an ensemble; the files changed."""
    names = names or Names()
    changed = []
    rendered = render(contract, serving, names, trt=has_plan(repository, names), triton=triton)
    for name, text in rendered.items():
        path = repository / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(path)
    for ensemble in (names.cutout, names.matte):
        keep = repository / ensemble / "1" / ".gitkeep"  # git keeps no empty folder
        keep.parent.mkdir(exist_ok=True)
        keep.touch()
    return changed


def check(repository: Path, contracts: dict[Names, tuple[Contract, Serving]]) -> None:
    """``OutOfDate`` names the files that are not what ``render`` gives, and those that it does not give."""
    rendered: dict[str, str] = {}
    for names, (contract, serving) in contracts.items():
        rendered |= render(contract, serving, names, trt=has_plan(repository, names))
    found = {str(p.relative_to(repository)): p.read_text() for p in repository.rglob("*.pbtxt")}
    wrong = sorted(name for name in rendered.keys() | found.keys() if rendered.get(name) != found.get(name))
    if wrong:
        raise OutOfDate(f"{', '.join(wrong)} in {repository}; run python -m bgexport repository")


def limited(serving: Serving, network: onnx.ModelProto) -> Serving:
    """``serving`` for a network that takes no larger batch than its file says."""
    said = {p.key: p.value for p in network.metadata_props}.get("max_batch_size")
    if said is None or int(said) >= serving.max_batch_size:
        return serving
    most = int(said)
    return dataclasses.replace(
        serving,
        max_batch_size=most,
        opt_batch_size=min(most, serving.opt_batch_size),
        max_photos=min(most, serving.max_photos),
    )


def networks(repository: Path) -> Iterator[tuple[Names, Path]]:
    """The ONNX networks that lie in the repository."""
    for path in sorted(repository.glob("*_onnx/1/model.onnx")):
        name = path.parts[-3].removesuffix("_onnx")
        yield Names("" if name == "tiramisu" else name), path


# --- the models --------------------------------------------------------------------------------------------------


def _network(contract: Contract, serving: Serving, name: str, kind: int, count: int) -> pb.ModelConfig:
    image = _tensor(pb.ModelInput, contract.input_tensor, pb.TYPE_UINT8, [3, *contract.size_hw])
    # the first execution of a shape is the slow one (allocation, kernel choice): before READY, not in a request;
    # the largest batch also takes all the memory there will ever be need of
    warm = (1, serving.max_batch_size)
    config = pb.ModelConfig(
        name=name,
        platform="tensorrt_plan" if name.endswith("_trt") else "onnxruntime_onnx",
        max_batch_size=serving.max_batch_size,
        input=[image],
        output=[_alpha(contract)],
        instance_group=[_instances(count, kind)],
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
    if kind == pb.ModelInstanceGroup.KIND_GPU:
        # the Python stand-in of the backend must not take the CPU instead
        config.parameters["engine"].string_value = "cuda"
    return config


def _preprocess(contract: Contract, serving: Serving, names: Names, instances: int) -> pb.ModelConfig:
    return _python(
        names.preprocess,
        contract,
        serving,
        instances,
        inputs=[_photo()],
        outputs=[_tensor(pb.ModelOutput, contract.input_tensor, pb.TYPE_UINT8, [3, *contract.size_hw])],
    )


def _pictures() -> list[Any]:
    """The finished picture, and JSON of what is known about it: people's box and the expected IoU."""
    return [_tensor(pb.ModelOutput, name, pb.TYPE_STRING, [1]) for name in ("cutout", "facts")]


def _postprocess(contract: Contract, serving: Serving, names: Names, instances: int) -> pb.ModelConfig:
    return _python(
        names.postprocess,
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


def _cutout(contract: Contract, serving: Serving, names: Names, network: str) -> pb.ModelConfig:
    steps = [
        *_to_alpha(contract, names, network),
        _step(names.postprocess, ["photo", contract.output_tensor, "options"], ["cutout", "facts"]),
    ]
    return _ensemble(names.cutout, contract, serving, steps, [_photo(), _options()], _pictures())


def _matte(contract: Contract, serving: Serving, names: Names, network: str) -> pb.ModelConfig:
    steps = _to_alpha(contract, names, network)
    return _ensemble(names.matte, contract, serving, steps, [_photo()], [_alpha(contract)])


def _to_alpha(contract: Contract, names: Names, network: str) -> list[pb.ModelEnsembling.Step]:
    image, alpha = contract.input_tensor, contract.output_tensor
    return [_step(names.preprocess, ["photo"], [image]), _step(network, [image], [alpha])]


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
    config.version_policy.latest.num_versions = 1  # a newer network becomes folder 2
    return text_format.MessageToString(config, use_short_repeated_primitives=True)
