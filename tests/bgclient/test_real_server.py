"""The client and the command line against the real tritonserver."""

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bgclient import AsyncClient, Client
from bgclient.errors import (
    BrokenPhoto,
    DeadlineExceeded,
    Doubtful,
    EmptyPhoto,
    ModelMissing,
    OptionError,
    TooManyPixels,
    UnknownFormat,
)
from bgimage.codec import decode

pytestmark = [pytest.mark.server, pytest.mark.slow]

TOLERANCE = 1
"""Steps of 255 by which a cut-out finished here may differ from one finished by the server. Both see the same pixels,
run the same network and finish with the same code; the answers of one network in batches of different sizes may
differ in the last bits, which rounding can turn into one step."""

TIMEOUT_S = 120.0
"""Long: a test machine may be busy."""


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture
def portrait(examples):
    return examples["astronaut"]


def difference(one, other):
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_the_contract_of_the_real_models_is_read(twin, url):
    client = twin.client(url, timeout_s=TIMEOUT_S)
    contract = twin.do(client.contract())
    assert contract.output_tensor == "alpha"
    twin.do(client.close())


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper"])
def test_both_places_of_finishing_give_the_same_pixels(twin, url, examples, name):
    client = twin.client(url, timeout_s=TIMEOUT_S)
    for options in ({}, {"output": "matte"}, {"background": "#3366cc"}, {"crop": True, "margin": "5%"}):
        here = twin.do(client.cut(examples[name], format="png", **options))
        there = twin.do(client.cut(examples[name], where="server", format="png", **options))
        assert difference(here.pixels, there.pixels) <= TOLERANCE
        assert here.expected_iou == pytest.approx(there.expected_iou, abs=1e-3)
    twin.do(client.close())


def test_every_way_to_the_network_gives_the_same_pixels(server, portrait):
    cutouts = []
    for settings in ({"url": server.grpc_url}, {"url": server.http_url}, {"engine": "onnxruntime"}):
        with Client(timeout_s=TIMEOUT_S, **settings) as client:
            cutouts.append(client.cut(portrait))
    assert all(difference(cutout.pixels, cutouts[0].pixels) <= TOLERANCE for cutout in cutouts)


def test_a_small_doubtful_person_is_surer_at_a_second_look_by_the_server_and_in_process(server, portrait):
    person = Image.fromarray(decode(portrait.read_bytes()).pixels).resize((250, 250))
    photo = Image.new("RGB", (1600, 1200), (110, 125, 140))
    photo.paste(person, (900, 500))
    mattes = []
    for settings in ({"url": server.grpc_url}, {"engine": "onnxruntime"}):
        with Client(timeout_s=TIMEOUT_S, **settings) as client:
            first = client.cut(photo)
            surer = client.cut(photo, at_least=first.expected_iou + 0.02)
            assert (first.looks, surer.looks, surer.timings.tries) == (1, 2, 2)
            assert surer.expected_iou > first.expected_iou + 0.02
            with pytest.raises(Doubtful):
                client.cut(photo, at_least=1.0)
            mattes.append(surer.matte)
    assert difference(*mattes) <= TOLERANCE


def test_what_is_uploaded_is_a_fraction_of_a_large_photo(server, portrait):
    from bgimage.codec import encode

    large = np.repeat(np.repeat(decode(portrait.read_bytes()).pixels, 6, axis=0), 6, axis=1)
    data = encode(large, "jpeg", quality=97)
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        cutout = client.cut(data)
    assert cutout.pixels.shape == (*large.shape[:2], 4)
    assert cutout.timings.sent_bytes < len(data) / 3


@pytest.mark.parametrize("where", ["client", "server"])
def test_bad_photos_are_their_own_errors_among_good_ones(twin, url, portrait, png_bomb, where):
    good = portrait.read_bytes()
    photos = [good, b"", good[: len(good) // 2], b"a text", good, png_bomb]
    client = twin.client(url, timeout_s=TIMEOUT_S)
    outcomes = twin.many(client.cut_many(photos, in_flight=6, where=where))
    kinds = [type(outcome.error) for outcome in outcomes]
    assert kinds == [type(None), EmptyPhoto, BrokenPhoto, UnknownFormat, type(None), TooManyPixels]
    assert difference(outcomes[0].cutout.pixels, outcomes[4].cutout.pixels) <= TOLERANCE
    twin.do(client.close())


def test_an_option_that_does_not_fit_the_photo_is_refused_by_the_server_as_at_home(server, portrait):
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        for where in ("client", "server"):
            with pytest.raises(OptionError):
                client.cut(portrait, where=where, people=(100_000, 100_000))


def test_a_network_that_is_not_there_is_said(twin, url, portrait):
    client = twin.client(url, model="nonexistent", timeout_s=TIMEOUT_S)
    with pytest.raises(ModelMissing, match="bgclient serve"):
        twin.do(client.cut(portrait))
    twin.do(client.close())


def cancelled(server):
    """How many requests the server counts as cancelled, over all models."""
    with urllib.request.urlopen(server.metrics_url, timeout=30) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r'request_failure\{.*reason="CANCELED".*\} (\S+)', text))


def test_a_deadline_reaches_the_server_and_leaves_it_well(server, portrait):
    before = cancelled(server)
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        expected = client.cut(portrait)
        for step in range(40):  # the moment that falls into the inference depends on the machine
            crowd = client.cut_many(  # most of them wait in the server's queue
                [portrait] * 8, in_flight=8, where="server", timeout_s=0.05 * (step % 10 + 1)
            )
            missed = [isinstance(outcome.error, DeadlineExceeded) for outcome in crowd]
            if any(missed) and cancelled(server) > before:
                break
        assert difference(client.cut(portrait).pixels, expected.pixels) <= TOLERANCE
    assert cancelled(server) > before


def test_cancelling_a_task_reaches_the_server(server, portrait):
    before = cancelled(server)

    async def run():
        async with AsyncClient(server.grpc_url, timeout_s=TIMEOUT_S) as client:
            await client.cut(portrait)
            for step in range(40):  # the moment that falls into the inference depends on the machine
                tasks = [asyncio.create_task(client.cut(portrait, where="server")) for _ in range(16)]
                await asyncio.sleep(0.05 * (step % 10 + 1))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if await asyncio.to_thread(cancelled, server) > before:
                    break
            assert (await client.cut(portrait)).pixels.shape[2] == 4

    asyncio.run(run())
    assert cancelled(server) > before


def test_threads_share_one_client_and_get_their_own_photos_back(server, examples):
    names = [name for name in examples if name != "camera"][:3]
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        alone = {name: client.cut(examples[name]).pixels for name in names}
        wrong = []

        def work(name):
            cutouts = (client.cut(examples[name]) for _ in range(3))
            wrong.extend(name for cutout in cutouts if difference(cutout.pixels, alone[name]) > TOLERANCE)

        threads = [threading.Thread(target=work, args=[name]) for name in names * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_info_names_triton_the_network_and_what_runs_it(twin, url, server):
    client = twin.client(url, timeout_s=TIMEOUT_S, headers=server.admin_headers)
    (info,) = twin.do(client.info())
    assert info.error is None
    assert info.ready
    assert info.version.startswith("2.")
    assert info.models["matte"] == info.models["cutout"] == "READY"
    assert info.network == "tiramisu_onnx"
    assert "onnxruntime" in info.backend
    assert info.devices == ("cpu",)
    twin.do(client.close())


def bgclient(root, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bgclient", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(root / "client"), **environment},
        check=False,
    )


def test_the_command_line_cuts_a_folder_over_both_protocols(root, url, examples, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("astronaut", "grace_hopper"):
        (folder / examples[name].name).write_bytes(examples[name].read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    done = bgclient(root, "cut", folder, tmp_path / "out", "--timeout", "120", BGCLIENT_URL=url)
    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["astronaut.png", "grace_hopper.png"]
    assert "2 cut, 1 failed" in done.stderr


def test_doctor_finds_the_real_server_well(root, server):
    done = bgclient(root, "doctor", "--json", "--timeout", "120", BGCLIENT_URL=server.grpc_url)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, findings
    assert sum(finding["name"] == "canary" for finding in findings) == 2


def test_a_client_survives_the_restart_of_its_server(server, portrait, tmp_path):
    """The connection breaks and comes back under the same address."""
    from bgserver import Server, Settings

    settings = Settings(variant="cpu", threads=2, canary_timeout_s=60.0, start_timeout_s=300.0)
    with Server(settings) as first:
        ports = {"grpc_port": first.facts["grpc"], "http_port": first.facts["http"]}
        client = Client(first.grpc_url, timeout_s=TIMEOUT_S)
        expected = client.cut(portrait)
    second = Server(dataclasses.replace(settings, **ports))
    threading.Thread(target=second.start).start()
    try:
        time.sleep(0.2)
        again = client.cut(portrait, timeout_s=300.0)
        assert difference(again.pixels, expected.pixels) <= TOLERANCE
        assert again.timings.tries > 1
        client.close()
    finally:
        second.stop()


GIVEN_UP = """
import os, signal, sys, time
from bgclient import Client, embedded
from bgserver import canary

client = Client(engine="triton", timeout_s=120.0)
before = client.cut(sys.argv[1])
server = embedded._server
load = canary.request(server.http_url, "POST", "/v2/repository/models/some/load", b"{}")
assert load[0] == 403, load  # nobody else administers it
while server.state != "failed":
    os.kill(server._keeper.pid, signal.SIGKILL)  # and each that takes its place
    time.sleep(0.5)
after = client.cut(sys.argv[1])
print(client.info()[0].backend.split()[0] in ("ONNX", "OpenVINO"))
print(before.timings.server != after.timings.server, abs(before.pixels.astype(int) - after.pixels).max() <= 1)
"""


def test_after_the_embedded_server_gave_up_the_next_call_starts_another(root, portrait):
    environment = {name: value for name, value in os.environ.items() if name != "BGCLIENT_URL"}
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_UP, str(portrait)],
        env={**environment, "PYTHONPATH": str(root / "client")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "True\nTrue True\n", done.stderr[-2000:]


OLD_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.response(pb_utils.get_input_tensor_by_name(r, "%s").as_numpy()) for r in requests]

    def response(self, given):
        alpha = np.zeros((len(given), 1, %d, %d), np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("%s", %s)])
"""

OLD_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "%s" data_type: %s dims: %s }
output { name: "%s" data_type: %s dims: %s }
instance_group { count: 1 kind: KIND_CPU }
"""

OLD_ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input { name: "photo" data_type: TYPE_STRING dims: [1] }
output { name: "alpha" data_type: TYPE_FP32 dims: %s }
parameters { key: "contract" value { string_value: %s } }
ensemble_scheduling {
  step {
    model_name: "reader" model_version: -1
    input_map { key: "photo" value: "photo" } output_map { key: "image" value: "image" }
  }
  step {
    model_name: "network" model_version: -1
    input_map { key: "image" value: "image" } output_map { key: "alpha" value: "alpha" }
  }
}
"""


@pytest.fixture(scope="module")
def old_server(tmp_path_factory):
    """A Triton with a ``cutout`` of an older day, which says no facts, and a network "alone" without a ``cutout``."""
    from bgimage.contract import Contract
    from bgserver import Server, Settings

    contract, repository = Contract(), tmp_path_factory.mktemp("models")
    photo, image = ("photo", "TYPE_STRING", [1]), ("image", "TYPE_UINT8", [3, *contract.size_hw])
    alpha = ("alpha", "TYPE_FP32", [1, *contract.size_hw])
    for name, taken, given, value in [
        ("cutout", photo, ("cutout", "TYPE_STRING", [1]), "given"),
        ("reader", photo, image, "np.zeros((len(given), 3, *alpha.shape[2:]), np.uint8)"),
        ("network", image, alpha, "alpha"),
    ]:
        (repository / name / "1").mkdir(parents=True)
        model = OLD_MODEL % (taken[0], *contract.size_hw, given[0], value)
        (repository / name / "1" / "model.py").write_text(model)
        (repository / name / "config.pbtxt").write_text(OLD_CONFIG % (*taken, *given))
    for name in ("matte", "matte_alone"):
        (repository / name / "1").mkdir(parents=True)
        config = OLD_ENSEMBLE % (alpha[2], json.dumps(contract.to_json()))
        (repository / name / "config.pbtxt").write_text(config)
    models = ("cutout", "matte", "matte_alone")
    waits = {"canary_timeout_s": 60.0, "start_timeout_s": 300.0}
    with Server(Settings(variant="cpu", repository=repository, models=models, **waits)) as running:
        yield running


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_with_older_models_is_told_from_a_broken_one(old_server, portrait, protocol):
    with Client(getattr(old_server, f"{protocol}_url"), timeout_s=TIMEOUT_S) as client:
        with pytest.raises(
            ModelMissing, match=r"cutout.*bgclient serve.*python -m bgserver models"
        ) as raised:
            client.cut(portrait, where="server")
        assert "facts" in str(raised.value) or "options" in str(raised.value)
        assert client.cut(portrait).pixels.shape[2] == 4, "the matte is all that this needs"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_a_server_lacks_and_has_is_named(old_server, portrait, protocol):
    said = (
        r"lacks 'cutout_alone'; it has cutout, matte, matte_alone, network, reader; "
        r"where='client' needs 'matte_alone' alone"
    )
    settings = {"model": "alone", "timeout_s": TIMEOUT_S, "headers": old_server.admin_headers}
    client = Client(getattr(old_server, f"{protocol}_url"), **settings)
    with client, pytest.raises(ModelMissing, match=said):
        client.cut(portrait, where="server")


def test_the_folder_of_the_models_is_printed_for_a_triton_of_one_s_own(root):
    done = subprocess.run(
        [sys.executable, "-m", "bgserver", "models"],
        env={**os.environ, "PYTHONPATH": str(root / "client")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (Path(done.stdout.strip()) / "cutout" / "config.pbtxt").is_file()


def test_serve_runs_until_it_is_told_to_stop(root, portrait, tmp_path):
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "bgclient", "serve", "--threads", "2", *ports],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "client")},
    ) as serving:
        address = serving.stdout.readline().split()[1]
        done = bgclient(root, "cut", portrait, tmp_path / "out.png", "--timeout", "120", BGCLIENT_URL=address)
        serving.terminate()
        assert serving.wait(60) == 0
    assert done.returncode == 0, done.stderr
    assert decode((tmp_path / "out.png").read_bytes()).alpha is not None
