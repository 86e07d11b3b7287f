"""Where the models are that came with this package."""

from __future__ import annotations

from pathlib import Path

from bgserver.errors import NetworkMissing

_PACKAGES = Path(__file__).resolve().parent.parent


def model_repository() -> Path:
    """The models that came with this package: inside the wheel, or at the root of the checkout.

    Raises:
        NetworkMissing: neither is there.
    """
    places = (Path(__file__).parent / "model_repository", _PACKAGES.parent / "model_repository")
    for place in places:
        if (place / "cutout").is_dir():
            return place
    raise NetworkMissing(f"no model repository in {' nor '.join(map(str, places))}; pass repository=")


def network_file() -> Path:
    """The ONNX file of the network that came with this package.

    Raises:
        NetworkMissing: there is none, or more than one.
    """
    repository = model_repository()
    found = sorted(repository.glob("*/*/model.onnx"))
    if len(found) != 1:
        raise NetworkMissing(
            f"{len(found)} ONNX files in {repository} instead of one; install bgclient again"
        )
    return found[0]
