"""Public clients of remove.bg, unmodified, and machines that read our OpenAPI page."""

from __future__ import annotations

import base64
import os

import numpy as np
import pytest
import requests

from .support import opened, picture

PHOTO = picture()

EXAMPLES = int(os.environ.get("BGCLIENT_SCHEMA_EXAMPLES", "30"))
"""Requests that are made up for each operation that takes any fields, sound ones and as many that break the schema."""


@pytest.fixture
def removebg(monkeypatch, listening, tmp_path):
    """The client library of the same name from PyPI, told our address instead of remove.bg's."""
    module = pytest.importorskip("removebg.removebg", reason="the development extra is not installed")
    monkeypatch.setattr(module, "API_ENDPOINT", listening(api_keys=("a-key",)) + "/v1.0/removebg")
    return module.RemoveBg("a-key", str(tmp_path / "error.log"))


def test_the_removebg_package_cuts_a_file(removebg, tmp_path):
    (tmp_path / "me.jpg").write_bytes(PHOTO)
    removebg.remove_background_from_img_file(str(tmp_path / "me.jpg"), size="regular")
    alpha = np.asarray(opened((tmp_path / "me.jpg_no_bg.png").read_bytes()))[..., 3]
    assert (alpha[120, 160], alpha[5, 5]) == (255, 0)


def test_the_removebg_package_cuts_base64_on_a_colour(removebg, tmp_path):
    out = tmp_path / "out.png"
    removebg.remove_background_from_base64_img(
        base64.b64encode(PHOTO).decode(), size="full", new_file_name=str(out), bg_color="ff0000"
    )
    assert opened(out.read_bytes()).convert("RGB").getpixel((2, 2)) == pytest.approx((255, 0, 0), abs=4)


def test_the_removebg_package_reports_our_errors(removebg, tmp_path):
    with pytest.raises(requests.HTTPError, match="400 Client Error"):
        removebg.remove_background_from_img_url(
            "https://example.com/a.jpg", new_file_name=str(tmp_path / "x.png")
        )


def test_a_client_that_sends_too_much_still_gets_to_read_why(listening):
    """The answer comes while the client is still sending; the rest of the upload is taken off its hands."""
    address = listening(max_upload_bytes=1_000_000)
    answer = requests.post(
        f"{address}/v1.0/removebg", files={"image_file": b"\xff\xd8\xff" + bytes(2_400_000)}, timeout=20
    )
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["code"] == "file_too_large"


@pytest.mark.parametrize("kind", ["POSITIVE", "NEGATIVE"])
def test_the_api_keeps_what_its_openapi_page_says(listening, kind):
    """schemathesis makes requests from the schema, or some that break it, and holds the answers against it."""
    schemathesis = pytest.importorskip("schemathesis", reason="the development extra is not installed")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as of_openapi

    held = [
        checks.not_a_server_error,
        of_openapi.status_code_conformance,
        of_openapi.content_type_conformance,
        of_openapi.response_headers_conformance,
        of_openapi.response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_url(f"{listening()}/openapi.json")
    bounded = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if kind == "NEGATIVE" and not operation.body:
            continue  # nothing that could be wrong

        @bounded
        @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode[kind]))
        def holds(case):
            asked.add((case.method, case.path))
            case.call_and_validate(checks=held)

        holds()
    assert ("POST", "/v1.0/removebg") in asked
