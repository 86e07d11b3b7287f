"""What a server says of itself, checked: its models, its contract, the alpha it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bgclient import _wire
from bgclient._cancel import Cancel
from bgclient._retry import Deadline
from bgclient._wire import Answer
from bgclient.errors import (
    AccessDenied,
    BgError,
    ModelMissing,
    NetworkChanged,
    ServerFault,
    ServerUnavailable,
    TransportError,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bgclient._session import Session
    from bgclient.transports import Transport
    from bgimage.contract import Contract


@dataclass(frozen=True)
class ServerInfo:
    """One server, as it describes itself; or the network of this process."""

    server: str
    """Its address."""
    ready: bool
    """True when it takes requests."""
    version: str | None = None
    """Triton's version."""
    models: Mapping[str, str] = field(default_factory=dict)
    """State of every model of its repository: "READY", "UNAVAILABLE", ...; empty where it keeps that to itself."""
    network: str | None = None
    """The model that holds the network."""
    backend: str | None = None
    """What runs it, such as "onnxruntime (python)", "tensorrt", or, in this process and in the server that it started,
    "OpenVINO 2025.3.0 on CPU, FP32, 2 threads"."""
    devices: tuple[str, ...] = ()
    """Where it runs: "cpu", "gpu"."""
    contract: Contract | None = None
    """The network's input and output."""
    error: BgError | None = None
    """Why the rest is missing."""


@dataclass(frozen=True)
class Served:
    """What a client must know of a server to ask it."""

    contract: Contract
    network: str
    """The model that takes the contract's input and gives its output."""


def served(said: Mapping[str, Any], model: str, server: str) -> Served:
    """What the configuration of the ensemble ``model`` says.

    Raises:
        ModelMissing: it is not one of ours.
        ServerFault: its contract cannot be kept.
    """
    from bgimage.contract import Contract

    try:
        text = said["config"]["parameters"]["contract"]["string_value"]
        steps = said["config"]["ensemble_scheduling"]["step"]
        taken = [(list(step.get("input_map", {})), step["model_name"]) for step in steps]
    except (KeyError, TypeError, AttributeError):
        raise ModelMissing(
            f"{server} has a model {model!r} that is not an ensemble with a 'contract' parameter: it is not ours; "
            f"{_wire.DEPLOY}"
        ) from None
    try:
        contract = Contract.from_json(text)
    except (ValueError, TypeError) as error:
        raise ServerFault(f"{server}: {error}; install the bgclient that fits the server") from error
    networks = [str(name) for inputs, name in taken if inputs == [contract.input_tensor]]
    if len(networks) != 1:
        raise ModelMissing(
            f"{server} has a model {model!r} in which no step takes {contract.input_tensor!r} alone; {_wire.DEPLOY}"
        )
    return Served(contract, networks[0])


@dataclass(frozen=True)
class Seen:
    """What the network made of a photo."""

    contract: Contract
    alpha: NDArray[np.float32]
    """float32 (H, W), finite, of the contract's size."""
    looks: int = 1
    """2 where it is that of a second, closer look."""


def seen(answer: Answer, contract: Contract, server: str) -> Seen:
    """The alpha in an answer.

    Raises:
        NetworkChanged: another shape than the contract's.
        ServerFault: no FP32 numbers, or infinite ones.
    """
    import numpy as np

    tensor = answer.output(contract.output_tensor)
    if tensor.shape != (1, 1, *contract.size_hw):
        raise NetworkChanged(
            f"{server} answers {tensor.name} {list(tensor.shape)}, its contract said {contract.size_hw}"
        )
    alpha = tensor.floats()[0, 0]
    if not np.isfinite(alpha).all():
        raise ServerFault(f"{server} answers {tensor.name} that is not finite; its network is broken")
    return Seen(contract, alpha)


def described(
    connect: Callable[[], Transport], server: str, matte: str, deadline: Deadline, cancel: Cancel
) -> ServerInfo:
    """What a server says of itself, as far as it answers; ``error`` says why the rest is missing.

    Args:
        connect: opens the way to it.
        server: its address.
        matte: name of the ensemble that tells the network's name and contract.
        deadline: of all its answers together.
        cancel: ends the questions.
    """
    said: dict[str, Any] = {"server": server, "ready": False}
    try:
        with closing(connect()) as transport:

            def ask(query: _wire.Query) -> dict[str, Any]:
                return transport.query(query, deadline.left(), cancel)

            said["ready"] = ask(_wire.ready_query()).get("ready", False)
            said["version"] = ask(_wire.server_query()).get("version")
            said["models"] = _models(transport, server, deadline)
            found = served(ask(_wire.config_query(matte)), matte, server)
            said["contract"] = found.contract
            said |= _network(ask(_wire.config_query(found.network)), server)
    except BgError as error:
        said["error"] = error
    return ServerInfo(**said)


def why_missing(
    error: ModelMissing, session: Session, needed: tuple[str, str], deadline: Deadline
) -> TransportError:
    """The error with the models that the server has and lacks, where it tells.

    A server that starts or ends lacks models too, for a while: the error is then a retryable one.

    Args:
        error: what a call ended with.
        session: the connections to the server.
        needed: the ensembles for ``where="client"`` and for "server".
        deadline: of the call; this takes five seconds of it at most.
    """
    soon = Deadline(min(max(deadline.left_s, 0.1), 5.0))
    try:
        models = _models(session.transport, session.server, soon)
        ready = session.transport.query(_wire.ready_query(), soon.left(), Cancel()).get("ready", False)
    except TransportError as other:
        return other if isinstance(other, ServerUnavailable) else error
    said = str(error)
    there = sorted(name for name, state in models.items() if state == "READY")
    absent = [name for name in needed if name not in there]
    if models and absent:
        matte = needed[0]
        hint = "" if matte in absent else f"; where='client' needs {matte!r} alone"
        said += f". It lacks {' and '.join(map(repr, absent))}; it has {', '.join(there) or 'none'}{hint}"
    if not ready:
        return ServerUnavailable(
            f"{said}. It is not ready: it starts or ends, or a model of it failed to load"
        )
    return ModelMissing(said)


def _models(transport: Transport, server: str, deadline: Deadline) -> dict[str, str]:
    """State by name of every model of a repository; none where the server keeps that to itself."""
    try:
        index = transport.query(_wire.models_query(), deadline.left(), Cancel())
    except AccessDenied:
        return {}
    try:
        return {
            str(model["name"]): str(model.get("state", "NOT LOADED")) for model in index.get("models", [])
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ServerFault(f"{server} lists its models in a way that is not Triton's") from error


def _network(said: Mapping[str, Any], server: str) -> dict[str, Any]:
    """Fields of ``ServerInfo`` that the network's configuration gives."""
    try:
        config = said["config"]
        backend = config.get("backend") or config.get("platform", "")
        kinds = {str(group.get("kind", "KIND_AUTO")) for group in config.get("instance_group", [])}
        return {
            "network": str(config["name"]),
            "backend": f"{backend} (python)" if config.get("runtime", "") == "model.py" else str(backend),
            "devices": tuple(sorted(kind.removeprefix("KIND_").lower() for kind in kinds)),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ServerFault(f"{server} describes its network in a way that is not Triton's") from error
