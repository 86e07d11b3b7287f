"""Photos from URLs: nothing inside is reached, nothing takes for ever, nothing fills the memory."""

import http.server
import ipaddress
import socket
import ssl
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgclient.client import Client
from bgclient.errors import DownloadFailed, UrlRefused
from bgclient.fetch import Fetcher, is_public
from bgclient.testing import FakeServer

INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fe80::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2001:db8::1",
    "64:ff9b:1::a00:1",
    "::a00:1",
    "::ffff:0:a00:1",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "192.0.0.192",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "64:ff9b::a83f:8110",
    "100:0:0:1::1",
]
OUTSIDE = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_no_ipv6_form_makes_a_private_address_public(address):
    number = int(address)
    for form in (f"::ffff:{address}", f"64:ff9b::{number:x}" if number < 65536 else f"64:ff9b::{address}"):
        assert not is_public(ipaddress.ip_address(form))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.jpg",
        "http://localhost/x.jpg",
        "http://[::1]/x.jpg",
        "http://2130706433/x.jpg",
        "http://0x7f.1/x.jpg",
        "http://017700000001/x.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/x.jpg",
    ],
)
def test_an_address_inside_is_refused_however_it_is_written(url):
    with pytest.raises(UrlRefused, match="public"):
        Fetcher().fetch(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x.jpg",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "https:///x.jpg",
        "http://user:secret@example.com/x.jpg",
        "http://example.com:22/x.jpg",
        "http://example.com:99999/x.jpg",
        "http://exa mple.com/x.jpg",
        "http://example.com/\r\nX-Evil: 1",
        "http://exämple.com/x.jpg",
        "",
    ],
)
def test_what_is_no_plain_web_address_is_refused_before_a_name_is_asked_for(url):
    def never(host, port):
        raise AssertionError("asked for a name")

    with pytest.raises(UrlRefused) as raised:
        Fetcher(resolve=never).fetch(url)
    assert "secret" not in str(raised.value)


def test_one_private_address_among_a_name_s_answers_is_enough_to_refuse():
    with pytest.raises(UrlRefused, match="two-faced"):
        Fetcher(resolve=lambda host, port: ["93.184.216.34", "10.0.0.1"]).fetch(
            "http://two-faced.example/x.jpg"
        )


def test_the_refusal_does_not_tell_the_address():
    with pytest.raises(UrlRefused) as raised:
        Fetcher(resolve=lambda host, port: ["10.20.30.40"]).fetch("http://intranet.example/x.jpg")
    assert "10.20.30.40" not in str(raised.value)


def test_the_address_that_was_really_connected_to_is_checked_again(site):
    calls = []

    def allowed(address):  # public when asked about, private once connected: what a proxy or a route may do
        calls.append(str(address))
        return len(calls) == 1

    with pytest.raises(UrlRefused):
        fetcher_of(site, allowed=allowed).fetch(f"http://photos.example:{site.server_port}/photo")
    assert calls == ["127.0.0.1", "127.0.0.1"]
    assert site.asked == []


def test_a_name_that_does_not_resolve_and_one_that_never_does():
    def unknown(host, port):
        raise socket.gaierror("no such host")

    with pytest.raises(DownloadFailed, match="no such host"):
        Fetcher(resolve=unknown).fetch("http://nowhere.example/")
    with pytest.raises(DownloadFailed, match=r"0\.2 s"):
        Fetcher(resolve=lambda host, port: time.sleep(5) or [], timeout_s=0.2).fetch("http://slow.example/")


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"], self.headers.get("Accept-Encoding")))
        handler = getattr(self, "get_" + self.path.strip("/").partition("/")[0], None)
        if handler is None:
            return self._send(404, b"")
        return handler()

    def _send(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def get_photo(self):
        self._send(200, b"photo" * 100)

    def get_chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"%x\r\n%s\r\n" % (1000, b"x" * 1000))
        except OSError:
            self.close_connection = True

    def get_once(self):
        self._send(302, b"", Location=f"http://other.example:{self.server.server_port}/photo")

    def get_relative(self):
        self._send(307, b"", Location="/photo")

    def get_loop(self):
        self._send(301, b"", Location="/loop")

    def get_inside(self):
        self._send(302, b"", Location=f"http://metadata.example:{self.server.server_port}/photo")

    def get_scheme(self):
        self._send(302, b"", Location="file:///etc/passwd")

    def get_port(self):
        self._send(302, b"", Location="http://other.example:22/")

    def get_gzip(self):
        self._send(200, b"bomb", Content_Encoding="gzip")

    def get_liar(self):
        self._send(200, b"", Content_Length=10**12)

    def get_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self._drip(b"x")

    def get_header_drip(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._drip(b"y")

    def _drip(self, byte):
        try:
            for _ in range(400):
                self.wfile.write(byte)
                time.sleep(0.02)
        except OSError:
            pass
        self.close_connection = True


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetcher_of(site, **settings):
    """A fetcher for which this machine is the internet, except for metadata.example."""
    inside = ipaddress.ip_address("169.254.169.254")
    return Fetcher(
        **{
            "ports": (site.server_port,),
            "allowed": lambda address: address != inside,
            "resolve": lambda host, port: [str(inside)] if host == "metadata.example" else ["127.0.0.1"],
            **settings,
        }
    )


def url_of(site, path):
    return f"http://photos.example:{site.server_port}/{path}"


@pytest.mark.parametrize("path", ["photo", "once", "relative"])
def test_a_photo_is_fetched_also_behind_a_redirect(site, path):
    assert fetcher_of(site).fetch(url_of(site, path)) == b"photo" * 100
    _, host, encoding = site.asked[-1]
    assert host == f"{'other' if path == 'once' else 'photos'}.example:{site.server_port}"
    assert encoding == "identity"


@pytest.mark.parametrize("path", ["inside", "scheme", "port"])
def test_a_redirect_to_the_inside_is_refused(site, path):
    with pytest.raises(UrlRefused):
        fetcher_of(site).fetch(url_of(site, path))
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nothing", "404"),
        ("loop", "more than 5 times"),
        ("gzip", "compressed"),
        ("liar", "has 1000000000000"),
    ],
)
def test_what_is_no_photo_is_said(site, path, why):
    with pytest.raises(DownloadFailed, match=why):
        fetcher_of(site).fetch(url_of(site, path))


@pytest.mark.parametrize("path", ["photo", "chunked"])
def test_too_many_bytes_are_refused_whether_announced_or_not(site, path):
    with pytest.raises(DownloadFailed, match="499"):
        fetcher_of(site, max_bytes=499).fetch(url_of(site, path))


@pytest.mark.parametrize("path", ["drip", "header_drip"])
def test_a_site_that_drips_is_cut_off_in_total_time(site, path):
    began = time.monotonic()
    with pytest.raises(DownloadFailed, match=r"within 0\.4 s"):
        fetcher_of(site, timeout_s=0.4).fetch(url_of(site, path))
    assert time.monotonic() - began < 4  # the drip lasts 8 s


def test_a_certificate_of_another_name_is_refused(tmp_path):
    subject = ["-subj", "/CN=elsewhere.example", "-addext", "subjectAltName=DNS:elsewhere.example"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    try:
        subprocess.run(
            [*command, "-keyout", "key", "-out", "cert"], cwd=tmp_path, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked = []
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(DownloadFailed, match=r"(?i)certificate"):
        fetcher_of(server).fetch(f"https://photos.example:{server.server_port}/photo")
    assert server.asked == []
    server.shutdown()
    server.server_close()


def test_a_client_fetches_urls_only_when_it_was_given_a_fetcher(site, jpeg, monkeypatch):
    monkeypatch.setattr(Site, "get_photo", lambda self: self._send(200, jpeg))
    url = url_of(site, "photo")
    with pytest.raises(UrlRefused, match=r"fetcher=Fetcher\(\)"):
        Client("fake:1", connector=FakeServer()).cut(url)
    assert Client("fake:1", connector=FakeServer(), fetcher=fetcher_of(site)).cut(url).pixels.shape == (
        90,
        120,
        4,
    )
