"""The web page's network in a real headless Chromium, against the server's engine with the same network."""

import base64
import functools
import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bgclient.web import assets
from bgexport import release
from bgexport.engines import cpu_engine
from bgexport.graph import check_graph, contract_of, metadata
from bgexport.limits import MAX_PAGE_BYTES, TOLERANCES
from bgexport.photos import from_folder
from bgexport.repository import ONNX_NETWORK
from bgexport.verify import parity
from bgtrain import checkpoint
from bgtrain.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "client" / "bgclient" / "web" / "static"
BROWSER, SERVER = STATIC / "network.onnx", ROOT / "model_repository" / ONNX_NETWORK / "1" / "model.onnx"
WEIGHTS = ROOT / "training" / "weights"
RUN = """
const [pixels, shape, done] = arguments;
(async () => {
  const ort = await import("/vendor/ort.wasm.bundle.min.mjs");
  ort.env.wasm.wasmPaths = location.origin + "/vendor/";
  ort.env.wasm.numThreads = 1;
  window.session ??= await ort.InferenceSession.create("/network.onnx", {executionProviders: ["wasm"]});
  const image = new ort.Tensor("uint8", Uint8Array.from(atob(pixels), c => c.charCodeAt(0)), shape);
  const {alpha} = await window.session.run({image});
  const bytes = new Uint8Array(alpha.data.buffer, alpha.data.byteOffset, alpha.data.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  done(btoa(text));
})().catch(error => done("!" + error));
"""


def published(network: Path) -> Checkpoint:
    """The committed checkpoint whose weights ``network`` has."""
    wanted = metadata(onnx.load(network))["weights_sha256"]
    found = {release.weights_sha256(one): one for one in map(checkpoint.load, WEIGHTS.glob("*.pt"))}
    assert wanted in found, f"{network} was made of no checkpoint in {WEIGHTS}"
    return found[wanted]


@pytest.mark.parametrize(("network", "precision"), [(SERVER, "fp32"), (BROWSER, "fp16-weights")])
def test_both_committed_files_are_made_of_the_committed_checkpoint(network: Path, precision: str) -> None:
    model, source = onnx.load(network), published(network)
    check_graph(model, source.contract)
    assert metadata(model)["network"] == source.network
    assert metadata(model)["precision"] == precision


def test_the_page_loads_at_most_eight_megabytes_and_frames_photos_as_its_network_was_trained() -> None:
    assert BROWSER.stat().st_size <= MAX_PAGE_BYTES
    contract = contract_of(onnx.load(BROWSER))
    worker = (STATIC / "js" / "device-worker.js").read_text()
    assert f"const GREY = {contract.pad_value};" in worker
    assert "inputMetadata[0].shape[3]" in worker  # the side is the file's own
    assert contract.size_hw[0] == contract.size_hw[1]
    assert (contract.fit, contract.channel_order) == ("letterbox", "RGB")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty page, the network and ONNX Runtime for the browser on a loopback port."""
    folder = tmp_path_factory.mktemp("page")
    try:
        assets.fetch_runtime(folder / "vendor")
    except assets.AssetError as error:
        pytest.skip(str(error))
    for packed in (folder / "vendor").glob("*.gz"):  # the app sends them with Content-Encoding: gzip
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    shutil.copy(BROWSER, folder)
    (folder / "index.html").write_text("<!doctype html><title>parity</title>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *said: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.browser
@pytest.mark.slow
def test_the_browser_gives_the_alpha_that_the_servers_engine_gives(
    address: str, chromium: Any, examples: dict[str, Path], tmp_path: Path
) -> None:
    source = published(BROWSER)
    contract = source.contract
    pictures = from_folder(contract, next(iter(examples.values())).parent)[:3]
    found = []
    chromium.set_script_timeout(300)
    chromium.get(f"{address}/")
    for picture in pictures:
        pixels = base64.b64encode(picture.image.tobytes()).decode()
        answer = chromium.execute_async_script(RUN, pixels, [1, 3, *contract.size_hw])
        assert not answer.startswith("!"), answer
        found.append(np.frombuffer(base64.b64decode(answer), np.float32).reshape(1, *contract.size_hw))
    full = tmp_path / "full.onnx"
    full.write_bytes(release.onnx_bytes(source))
    in_fp32, same_file = (
        np.concatenate([cpu_engine("ONNX Runtime", path)(picture.image[None]) for picture in pictures])
        for path in (full, BROWSER)
    )
    exact = parity(same_file, np.stack(found))  # the same file in two runtimes
    assert exact.max_difference <= TOLERANCES["fp32"].max_difference
    told = parity(in_fp32, np.stack(found))
    assert told.mean_difference <= TOLERANCES["fp16-weights"].mean_difference
    assert told.iou >= TOLERANCES["fp16-weights"].iou
