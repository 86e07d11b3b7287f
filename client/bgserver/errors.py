"""What can keep a server from starting or from staying up, one sentence each.

BgError
└── ServerError                  code "server_error"
    ├── ServerMissing            no tritonserver on this machine
    ├── WrongPython              this Python cannot run the server's models (no shared libpython, no numpy 1)
    ├── PortBusy                 another program listens there
    ├── DiskFull                 no room for the server's folder
    ├── SharedMemoryTooSmall     /dev/shm cannot hold the tensors
    ├── TooFewOpenFiles          the limit of open files is too low for a server
    ├── NetworkMissing           a model without a version that could be served
    ├── EngineMissing            an engine was asked for that is not installed here
    ├── PlanRefused              a TensorRT plan that must not be loaded here
    │   ├── PlanDamaged          its record is missing, or its bytes have changed
    │   ├── PlanForOtherNetwork  built from another ONNX file or contract
    │   ├── PlanForOtherTensorRT this TensorRT does not load it
    │   └── PlanForOtherGpu      this GPU does not run it
    ├── ModelRefused             a model did not load; the message is the server's own
    ├── StartTimeout             not ready in time
    ├── CanaryFailed             ready by its own word, but a test photo does not come back
    │   └── NoAnswer             nothing came back in time
    └── ServerDied               died while starting, gave up after repeated restarts, was killed or stopped
"""

from __future__ import annotations

from bgimage.errors import BgError


class ServerError(BgError):
    """The server did not start or did not stay up."""

    code = "server_error"


class ServerMissing(ServerError):
    """No tritonserver was found."""

    code = "server_missing"


class WrongPython(ServerError):
    """The running Python cannot host the server's Python models."""

    code = "wrong_python"


class PortBusy(ServerError):
    """A port is taken."""

    code = "port_busy"
    retryable = True


class DiskFull(ServerError):
    """The temporary folder has no room."""

    code = "disk_full"
    retryable = True


class SharedMemoryTooSmall(ServerError):
    """/dev/shm has no room; every tensor between the server and its Python models passes through it."""

    code = "shared_memory_too_small"


class TooFewOpenFiles(ServerError):
    """The limit of open files (RLIMIT_NOFILE) cannot hold a server."""

    code = "too_few_open_files"


class NetworkMissing(ServerError):
    """A model folder has no version to serve."""

    code = "network_missing"


class EngineMissing(ServerError):
    """An engine was asked for by name and is not installed, or its device is not there."""

    code = "engine_missing"


class PlanRefused(ServerError):
    """A TensorRT plan must not be loaded on this machine."""

    code = "plan_refused"


class PlanDamaged(PlanRefused):
    """The record of the plan is missing, or the bytes of the plan have changed since it was built."""

    code = "plan_damaged"


class PlanForOtherNetwork(PlanRefused):
    """The plan was built from another ONNX file, or for another contract."""

    code = "plan_for_other_network"


class PlanForOtherTensorRT(PlanRefused):
    """This TensorRT does not load the plan."""

    code = "plan_for_other_tensorrt"


class PlanForOtherGpu(PlanRefused):
    """This GPU does not run the plan."""

    code = "plan_for_other_gpu"


class ModelRefused(ServerError):
    """The server refused a model; the message is its own."""

    code = "model_refused"


class StartTimeout(ServerError):
    """Not ready in time."""

    code = "start_timeout"
    retryable = True


class CanaryFailed(ServerError):
    """The server says ready, yet a test photo does not come back as it should."""

    code = "canary_failed"
    retryable = True


class NoAnswer(CanaryFailed):
    """The test photo's answer did not come in time: a stuck server, or a very busy one."""

    code = "no_answer"


class ServerDied(ServerError):
    """The server ended and could not be brought back."""

    code = "server_died"
    retryable = True
