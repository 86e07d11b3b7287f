"""Ways to ask the one server: gRPC, HTTP, and the same network in this process."""

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tritonclient.grpc as triton

from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.geometry import network_input
from bgserver import canary, engines


@pytest.fixture(scope="session")
def network(root):
    """The network that the server runs, in this process: ONNX Runtime on the CPU."""
    return engines.onnxruntime_engine(
        root / "model_repository" / "tiramisu_onnx" / "1" / "model.onnx", threads=2
    )


@pytest.fixture(scope="session")
def contract(grpc):
    """As the server tells it."""
    config = grpc.get_model_config("cutout", as_json=True)["config"]
    return Contract.from_json(config["parameters"]["contract"]["string_value"])


@pytest.fixture(scope="session")
def grpc(server):
    """A gRPC client."""
    with triton.InferenceServerClient(server.grpc_url) as client:
        yield client


def tensor(name, values):
    """A BYTES input, one entry a photo."""
    array = np.array([[value] for value in values], dtype=object)
    made = triton.InferInput(name, array.shape, "BYTES")
    made.set_data_from_numpy(array)
    return made


@pytest.fixture(scope="session")
def ask(grpc):
    """``ask.cutout`` and ``ask.matte``: photos (bytes) to an array, over gRPC; ``ask.many``: all at the same time."""

    def inputs(photos, options=None):
        asked = [tensor("photo", photos)]
        return asked if options is None else [*asked, tensor("options", [json.dumps(options)] * len(photos))]

    def cutout(*photos, options=None):
        answer = grpc.infer("cutout", inputs(photos, options), client_timeout=300)
        return answer.as_numpy("cutout").ravel().tolist()

    def matte(*photos):
        return grpc.infer("matte", inputs(photos), client_timeout=300).as_numpy("alpha")[:, 0]

    def many(model, output, photos):
        """Answers in the photos' order: arrays, or the exceptions that came instead."""
        pending = []
        for photo in photos:
            answer = SimpleNamespace(result=None, done=threading.Event())

            def keep(result, error, answer=answer):
                answer.result = error if error is not None else result.as_numpy(output)
                answer.done.set()

            grpc.async_infer(model, inputs([photo]), keep, client_timeout=300)
            pending.append(answer)
        for answer in pending:
            assert answer.done.wait(300)
        return [answer.result for answer in pending]

    return SimpleNamespace(cutout=cutout, matte=matte, many=many)


@pytest.fixture(scope="session")
def http_matte(server):
    """A photo's alpha over HTTP."""

    def matte(photo):
        shape, raw = canary.infer(server.http_url, "matte", photo, "alpha", timeout_s=300)
        return np.frombuffer(raw, np.float32).reshape(shape)[:, 0]

    return matte


@pytest.fixture(scope="session")
def in_process(network, contract):
    """A photo's alpha, float32 (S, S), without any server."""

    def alpha(photo):
        image = network_input(decode(photo), contract)[None]
        return network.run({"image": image}, ["alpha"])[0][0, 0]

    return alpha
