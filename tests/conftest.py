"""What the tests of several packages share: example photos, the training photos, one server, one browser."""

import contextlib
import http.server
import os
import random
import shutil
import socket
import struct
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bgserver import installation

# how long an example takes says something of the machine, nothing of the code
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]

CHROMIUM_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--lang=en-US",
    "--window-size=1360,900",
)


def pytest_runtest_setup(item):
    """Skip what needs a tritonserver where none can be had, such as on Python 3.13."""
    server = item.get_closest_marker("server") and not installation.SYSTEM_TRITON.exists()
    if server and (why := installation.unavailable()):
        pytest.skip(why)


@pytest.fixture(scope="session")
def free_ports():
    """A function that gives so many ports that are free.

    They lie below those that the system gives to outgoing connections, of which other tests open many meanwhile.
    """

    def found(count):
        ports = set()
        while len(ports) < count:
            port = random.randrange(20_000, 32_000)
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                ports.add(port)
        return list(ports)

    return found


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the training photos (BGCLIENT_DATA, default ``../shared/data`` beside the checkout), or a skip."""
    folder = Path(os.environ.get("BGCLIENT_DATA") or ROOT / ".." / "shared" / "data").resolve()
    if not (folder / "index.csv").is_file():
        pytest.skip(f"no training photos in {folder}; set BGCLIENT_DATA")
    return folder


@pytest.fixture(scope="session")
def examples():
    """Paths of the example photos, by name."""
    return {
        path.stem: path for path in sorted((ROOT / "examples").iterdir()) if path.suffix in (".jpg", ".png")
    }


@pytest.fixture(scope="session")
def server_log(tmp_path_factory):
    """Where ``server`` writes its log."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def server(server_log):
    """The real tritonserver over the repository's models, once for the whole run."""
    bgserver = pytest.importorskip("bgserver")
    # no cache: tests send the same photos again, and the network is part of what they test
    settings = bgserver.Settings(
        variant="cpu", threads=2, cache_mb=0, canary_timeout_s=60.0, start_timeout_s=300.0
    )
    with bgserver.Server(settings, log=server_log) as running:
        yield running


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium with its ``downloads`` folder, once for the whole run; or a skip."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (browser and chromedriver):
        pytest.skip(
            "no chromium and chromedriver on PATH; on Debian: apt-get install chromium chromium-driver"
        )
    folder = tmp_path_factory.mktemp("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.downloads = folder / "downloads"
    driver.downloads.mkdir()
    yield driver
    driver.quit()


@pytest.fixture
def stranger(chromium):
    """Sends a POST, a text or the fields of a form, as the page of another site does to an address of its choice."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    def send(url, body):
        chromium.get(f"http://stranger.example:{site.server_port}/")
        arrived = chromium.execute_async_script(  # a simple request: no browser asks the server first
            """const [url, given, done] = arguments;
               const body = typeof given === "string" ? given : new URLSearchParams(given);
               fetch(url, {method: "POST", mode: "no-cors", body}).then(answer => done(answer.type), done);""",
            url,
            body,
        )
        assert arrived == "opaque"

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield send
        site.shutdown()


@pytest.fixture(scope="session")
def png_bomb():
    """109 kB that announce 900 megapixels: 30000 x 30000, one bit a pixel, black."""
    size, row = 30_000, b"\0" + bytes(30_000 // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(size)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">2I5B", size, size, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)
