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
        NetworkMissing: there is none.
    """
    repository = model_repository()
    found = repository / "tiramisu_onnx" / "1" / "model.onnx"
    if not found.is_file():
        raise NetworkMissing(f"no tiramisu_onnx/1/model.onnx in {repository}; install bgclient again")
    return found


def kind_of(model: str) -> str:
    """ "cutout" or "matte" for our ensembles and for those around other networks (``matte_modnet``), else ""."""
    kind = model.partition("_")[0]
    return kind if kind in ("cutout", "matte") else ""


def ensembles(repository: Path) -> tuple[str, ...]:
    """Names of the ensembles in a repository, ``cutout`` first.

    Raises:
        NetworkMissing: there is none.
    """
    found = sorted(path.name for path in repository.iterdir() if path.is_dir() and kind_of(path.name))
    if not found:
        raise NetworkMissing(f"model repository {repository} has neither cutout nor matte")
    return tuple(found)
