"""gRPC over TLS."""

import shutil
import subprocess

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    pem, key = folder / "server.pem", folder / "server.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=bgclient -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-out", pem, "-keyout", key], check=True, capture_output=True)
    return pem, key


def test_grpc_speaks_tls_and_nothing_else(tiny, certificate, monkeypatch):
    pem, key = certificate
    monkeypatch.chdir(pem.parent)
    server = tiny(tls_cert=pem.name, tls_key=key.name).start()
    with triton.InferenceServerClient(server.grpc_url, ssl=True, root_certificates=str(pem)) as client:
        assert client.is_server_live(client_timeout=30)
    with (
        triton.InferenceServerClient(server.grpc_url) as plain,
        pytest.raises(InferenceServerException, match="UNAVAILABLE"),
    ):
        plain.is_server_live(client_timeout=30)


def test_clients_without_a_certificate_stay_outside_where_one_is_asked_for(tiny, certificate):
    pem, key = certificate
    server = tiny(tls_cert=pem, tls_key=key, tls_clients=pem).start()
    known = {"private_key": str(key), "certificate_chain": str(pem)}
    with triton.InferenceServerClient(
        server.grpc_url, ssl=True, root_certificates=str(pem), **known
    ) as client:
        assert client.is_server_live(client_timeout=30)
    with (
        triton.InferenceServerClient(server.grpc_url, ssl=True, root_certificates=str(pem)) as stranger,
        pytest.raises(InferenceServerException, match="UNAVAILABLE"),
    ):
        stranger.is_server_live(client_timeout=30)
