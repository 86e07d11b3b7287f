"""A small network with settled batch normalisation, and its ONNX file."""

from pathlib import Path

import onnx
import pytest
import torch

from bgexport import release
from bgexport.photos import NetworkInput, adversarial, from_folder
from bgimage.contract import Contract
from bgtrain.checkpoint import Checkpoint
from bgtrain.tiramisu import LargeTiramisu, LargeTiramisuConfig

SMALL = LargeTiramisuConfig(
    stem=8, growth_rates=(4, 4, 4, 4), down=(1, 1, 1, 1), widths=(8, 8, 8, 8), up=(1, 1, 1), head=8
)


def settled(net: torch.nn.Module) -> torch.nn.Module:
    """Running statistics as after training, so that folding them away is not a no-op."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract(size_hw=(64, 96))


@pytest.fixture(scope="session")
def checkpoint(contract: Contract) -> Checkpoint:
    """A network, as trained."""
    torch.manual_seed(0)
    net = settled(LargeTiramisu(SMALL))
    with torch.no_grad():  # decided, as a trained network is: of logits around 0 a small error flips many
        final = net.head_full[-1]
        final.weight *= 0.1
        final.bias += 1 - net(torch.zeros(1, 3, *contract.size_hw)).mean()

    class Small(Checkpoint):
        def model(self) -> torch.nn.Module:
            return net

    return Small("tiramisu-large", contract, {}, {"score": 0.5}, net.state_dict())


@pytest.fixture(scope="session")
def pictures(contract: Contract, examples: dict[str, Path]) -> list[NetworkInput]:
    """The example photos and the adversarial pictures."""
    real = from_folder(contract, next(iter(examples.values())).parent)
    return [*real, *adversarial(contract, real[:1])]


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network in FP32."""
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    path.write_bytes(release.onnx_bytes(checkpoint))
    return path


@pytest.fixture
def model(exported: Path) -> onnx.ModelProto:
    """A fresh copy of it, to be changed."""
    return onnx.load(exported)
