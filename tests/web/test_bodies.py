"""What a body may make of this process, however it is written."""

from __future__ import annotations

import base64
import json
import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest

from bgclient.web.body import Caps, _unquoted, read_fields
from bgclient.web.errors import Refusal

PICTURE_BYTES = 512 * 1024
URLENCODED, JSON = "application/x-www-form-urlencoded", "application/json"


async def arriving(body, size):
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def fields_of(content_type, body, *, chunk=64 * 1024):
    return await read_fields(arriving(body, chunk), content_type, None, PICTURE_BYTES)


WHOLE = Caps(PICTURE_BYTES).whole
HOSTILE = {
    "every byte of a picture written with a percent sign": (
        URLENCODED,
        b"image_file_b64=" + b"%41" * (WHOLE // 3 - 10),
    ),
    "every byte of an unknown field": (URLENCODED, b"a=" + b"%41" * (WHOLE // 3 - 10)),
    "a name without end": (URLENCODED, b"%41" * (WHOLE // 3 - 10)),
    "empty objects": (JSON, b'{"x":[' + b"{}," * (WHOLE // 3 - 10) + b"{}]}"),
    "names": (JSON, b"{" + b",".join(b'"%x":0' % n for n in range(WHOLE // 11)) + b"}"),
    "numbers": (JSON, b'{"x":[' + b"0.1," * (WHOLE // 4 - 10) + b"0]}"),
    "one letter that needs four bytes": (JSON, '{"x":"\U0001f600"'.encode() + b" " * (WHOLE // 2) + b"}"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_no_body_needs_much_more_memory_than_it_has_bytes(kind):
    content_type, body = HOSTILE[kind]
    tracemalloc.start()
    try:
        fields = await fields_of(content_type, body)
    except Refusal as refusal:
        fields = refusal.status
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert fields in ({}, 400, 413) or set(fields) == {"image_file_b64"}
    assert peak < 3 * len(body), f"{peak / len(body):.1f} bytes for each of the body's"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
async def test_an_urlencoded_body_reads_the_same_however_it_is_cut_into_pieces(chunk):
    body = b"size=full&empty&=x&a%62=&bg_color=%23f%66f&image_file_b64=a+b%2Bc%3D%3d&scale=50%25&type=a+b%"
    assert await fields_of(URLENCODED, body, chunk=chunk) == {
        "size": "full",
        "bg_color": "#fff",
        "image_file_b64": "a+b+c==",
        "scale": "50%",
        "type": "a b%",
    }


@pytest.mark.parametrize(
    "text", [b"", b"%", b"%4", b"%41", b"%%41", b"%4%41", b"%zz%C3%bc%", b"a%2B+b%25 %41%4"]
)
def test_escapes_are_decoded_as_everywhere(text):
    assert _unquoted(text) == unquote_to_bytes(text)


async def test_the_largest_picture_that_is_allowed_fits_into_every_kind_of_body():
    encoded = base64.encodebytes(bytes(range(256)) * (PICTURE_BYTES // 256)).decode()
    quoted = encoded.replace("+", "%2B").replace("/", "%2F").replace("\n", "%0A").replace("=", "%3D")
    for content_type, body in (
        (URLENCODED, f"size=auto&image_file_b64={quoted}"),
        (JSON, json.dumps({"image_file_b64": f"data:image/png;base64,{encoded}"})),
    ):
        fields = await fields_of(content_type, body.encode())
        assert fields["image_file_b64"].endswith(encoded)


async def test_small_json_may_have_any_letters():
    assert await fields_of(JSON, '{"type":"für 😀","size":"full"}'.encode()) == {
        "type": "für 😀",
        "size": "full",
    }
