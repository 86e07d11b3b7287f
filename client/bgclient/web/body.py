"""Request bodies to fields, as they stream in: multipart, urlencoded or JSON, never more in memory than is allowed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from bgclient.web.errors import Refusal
from bgclient.web.parameters import FILES, Wanted, invalid

_NAMES = frozenset(Wanted.model_fields)
_MAX_PARTS = 64
_MAX_TEXT = 64 * 1024
"""Bytes of a text field."""
_MAX_VALUES = 10_000
"""Values of a JSON body, counted by what stands between them; base64 has none of these signs."""
_BETWEEN = (b",", b":", b"[", b"{")
_SMALL_JSON = 1024 * 1024
"""Bytes. A letter that is not ASCII makes a text need four times the memory, so a larger body may not have any."""
_PIECE = 64 * 1024
"""Bytes of an urlencoded body that are decoded at once."""
_DIGITS = np.array(
    [int(chr(n), 16) if chr(n) in "0123456789abcdefABCDEF" else 16 for n in range(256)], np.uint8
)
"""What each byte is worth as a hexadecimal digit; 16: it is not one."""
_CUT_ESCAPE = re.compile(rb"%[0-9A-Fa-f]?\Z")


@dataclass(frozen=True)
class Caps:
    """Bytes that may be kept."""

    picture: int
    """One picture, decoded from base64."""

    @property
    def base64(self) -> int:
        """One picture as base64, with line ends and a data: prefix."""
        return self.picture * 4 // 3 + self.picture // 32 + 1024

    @property
    def whole(self) -> int:
        """A body: two pictures and the texts."""
        return self.base64 + self.picture + 1024 * 1024

    def field(self, name: str) -> int:
        """One field."""
        return self.picture if name in FILES else self.base64 if name == "image_file_b64" else _MAX_TEXT


async def read_fields(
    chunks: AsyncIterator[bytes], content_type: str, content_length: str | None, max_picture_bytes: int
) -> dict[str, str | bytes]:
    """Fields of a body. Unknown fields are skipped without being kept.

    Args:
        chunks: the body as it arrives; not read further once something is wrong.
        content_type: the header.
        content_length: the header, believed only where it announces too much.
        max_picture_bytes: of one picture, as its file.

    Raises:
        Refusal: too large (413), another type (415), or not what its type says (400).
    """
    caps = Caps(max_picture_bytes)
    if content_length is not None and content_length.isdigit() and int(content_length) > caps.whole:
        raise _too_large(max_picture_bytes)
    kind, parameters = parse_options_header(content_type)
    match kind.lower():
        case b"multipart/form-data":
            return await _multipart(chunks, parameters.get(b"boundary", b""), caps)
        case b"application/x-www-form-urlencoded":
            return await _urlencoded(chunks, caps)
        case b"application/json":
            return await asyncio.to_thread(_json, await _json_body(chunks, caps), caps)
    raise Refusal(
        415,
        "invalid_content_type",
        "Unsupported content type",
        "Send multipart/form-data, application/x-www-form-urlencoded or application/json",
    )


class _Pairs:
    """Collects name=value pairs as they stream in; percent signs are decoded piece by piece."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._pairs = 0
        self._start()
        self.fields: dict[str, str | bytes] = {}

    def _start(self) -> None:
        self._encoded_name = b""
        self._name: str | None = None
        self._rest = b""
        self._data = bytearray()

    def write(self, piece: bytes) -> None:
        self._pairs += piece.count(b"&")
        if self._pairs >= _MAX_PARTS:
            raise _malformed(f"More than {_MAX_PARTS} fields")
        *ended, last = piece.split(b"&")
        for part in ended:
            self._part(part)
            self.end()
        self._part(last)

    def _part(self, part: bytes) -> None:
        if self._name is None:
            name, equals, part = part.partition(b"=")
            self._encoded_name = (self._encoded_name + name)[:_MAX_TEXT]
            if not equals:
                return
            self._name = _unquoted(self._encoded_name).decode("utf-8", "replace")
            if self._name in _NAMES:
                _once(self.fields, self._name)
        if self._name in _NAMES:
            # A "+" of base64 that the sender did not encode stays one.
            self._keep(part if self._name == "image_file_b64" else part.replace(b"+", b" "))

    def _keep(self, part: bytes) -> None:
        assert self._name is not None
        part = self._rest + part
        cut = _CUT_ESCAPE.search(part)
        self._rest = cut[0] if cut else b""
        self._data += _unquoted(part[: cut.start()] if cut else part)
        if len(self._data) > self._caps.field(self._name):
            raise _field_too_large(self._name, self._caps)

    def end(self) -> None:
        """A pair is whole."""
        if self._name in _NAMES:
            assert self._name is not None
            self.fields[self._name] = _text(self._name, self._data + self._rest)
        self._start()


def _unquoted(data: bytes) -> bytes:
    """``data`` with its escapes (%41) decoded, as ``urllib.parse.unquote_to_bytes`` does it one by one."""
    if b"%" not in data:
        return data
    signs = np.frombuffer(data + b"  ", np.uint8).copy()
    at = np.flatnonzero(signs[:-2] == ord("%"))
    high, low = _DIGITS[signs[at + 1]], _DIGITS[signs[at + 2]]
    escapes = (high < 16) & (low < 16)
    at = at[escapes]
    signs[at] = 16 * high[escapes] + low[escapes]
    kept = np.ones(len(signs), bool)
    kept[-2:] = kept[at + 1] = kept[at + 2] = False
    return signs[kept].tobytes()


async def _urlencoded(chunks: AsyncIterator[bytes], caps: Caps) -> dict[str, str | bytes]:
    pairs = _Pairs(caps)
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > caps.whole:
            raise _too_large(caps.picture)
        for at in range(0, len(chunk), _PIECE):
            pairs.write(chunk[at : at + _PIECE])
    pairs.end()
    return pairs.fields


async def _json_body(chunks: AsyncIterator[bytes], caps: Caps) -> bytes:
    """The body, once it is known that the parser makes little more of it than the text it has."""
    body, values, most = bytearray(), 0, caps.base64 + _SMALL_JSON
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise _too_large(caps.picture)
        values += sum(map(chunk.count, _BETWEEN))
        if values > _MAX_VALUES:
            raise _malformed(f"The body is JSON of more than {_MAX_VALUES} values")
    if len(body) > _SMALL_JSON and not body.isascii():
        raise _malformed(f"JSON of more than {_SMALL_JSON} bytes is ASCII: write other letters as \\uXXXX")
    return bytes(body)


def _json(body: bytes, caps: Caps) -> dict[str, str | bytes]:
    try:
        given = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _malformed("The body is not JSON") from error
    if not isinstance(given, dict):
        raise _malformed("The body is JSON, but not an object")
    fields: dict[str, str | bytes] = {}
    for name, value in given.items():
        if name in _NAMES and value is not None:
            fields[name] = _capped(name, _plain(name, value), caps)
    return fields


def _plain(name: str, value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() if abs(value) < 1 << 63:
            return str(value)
        case float():
            return f"{value:g}"
        case list() if name in ("keep", "remove"):  # JSON within JSON may do without the quotes
            return json.dumps(value)
    raise invalid(name, "send text, a number or a boolean")


def _text(name: str, data: bytearray) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"{name} is not UTF-8 text") from error


def _capped(name: str, value: str, caps: Caps) -> str:
    if len(value) > caps.field(name):
        raise _field_too_large(name, caps)
    return value


def _once(fields: dict[str, str | bytes], name: str) -> None:
    if name in fields:
        raise invalid(name, "it is given more than once")


class _Parts:
    """Collects the parts of a multipart body from the parser's callbacks."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._parts = 0
        self._header = b""
        self._text = b""
        self._disposition = b""
        self._name: str | None = None
        self._data = bytearray()
        self.fields: dict[str, str | bytes] = {}
        self.ended = False

    def callbacks(self) -> dict[str, Any]:
        """For the parser, which gives views into its buffer as (data, start, end)."""
        parts = ("part_begin", "part_data", "part_end", "end")
        headers = ("header_field", "header_value", "header_end", "headers_finished")
        return {f"on_{name}": getattr(self, name) for name in (*parts, *headers)}

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _malformed(f"More than {_MAX_PARTS} parts")
        self._disposition, self._name = b"", None
        self._data = bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._text += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._text
        self._header = self._text = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._name = name if name in _NAMES else None
        if self._name:
            _once(self.fields, self._name)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            return
        if len(self._data) + end - start > self._caps.field(self._name):
            raise _field_too_large(self._name, self._caps)
        self._data += data[start:end]

    def part_end(self) -> None:
        if self._name is None:
            return
        self.fields[self._name] = bytes(self._data) if self._name in FILES else _text(self._name, self._data)
        self._data = bytearray()

    def end(self) -> None:
        self.ended = True


async def _multipart(chunks: AsyncIterator[bytes], boundary: bytes, caps: Caps) -> dict[str, str | bytes]:
    if not boundary:
        raise _malformed("multipart/form-data without a boundary")
    parts = _Parts(caps)
    total = 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        async for chunk in chunks:
            total += len(chunk)
            if total > caps.whole:
                raise _too_large(caps.picture)
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise _malformed(f"The body is not multipart/form-data: {error}") from error
    if not parts.ended:
        raise _malformed("The body ends inside a part")
    return parts.fields


def _malformed(detail: str) -> Refusal:
    return Refusal(400, "invalid_request", "The request cannot be read", detail)


def _field_too_large(name: str, caps: Caps) -> Refusal:
    if caps.field(name) == _MAX_TEXT:
        return invalid(name, f"at most {_MAX_TEXT} bytes of text")
    return _too_large(caps.picture)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413, "file_too_large", "File too large", f"A file may have {limit} bytes ({limit / 2**20:g} MiB)"
    )
