"""The description of the REST side for machines, made from ``parameters.Wanted``."""

from __future__ import annotations

from typing import Any

from bgclient.web.parameters import FILES, SOURCES, Wanted

_ERRORS = {
    400: "A parameter or the image is wrong, or no person is in the image",
    403: "The API key is missing or wrong, or a page of another origin asks",
    408: "The upload took too long",
    413: "The file has too many bytes or pixels",
    415: "Neither an image nor a content type that is read here",
    429: "Too many requests; Retry-After says when to come back",
    500: "A defect of this software",
    503: "Busy, or nothing that can cut is reachable; Retry-After says when to come back",
}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["title", "code"],
                "properties": {
                    "title": {"type": "string"},
                    "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
                    "detail": {"type": "string"},
                },
            },
        }
    },
}

_SHARE = {"type": "number", "minimum": 0, "maximum": 1}

RESULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "object",
            "required": ["result_b64"],
            "properties": {
                "result_b64": {"type": "string", "format": "byte", "description": "The image, as base64."},
                **{
                    f"foreground_{side}": {"type": "integer", "minimum": 0}
                    for side in ("top", "left", "width", "height")
                },
                "expected_iou": _SHARE,
            },
        }
    },
}

_WHOLE = {"type": "integer", "minimum": 0}

RESULT_HEADERS: dict[str, dict[str, Any]] = {
    name: {"description": about, "schema": schema}
    for name, about, schema in (
        ("X-Type", "What was found; absent with type_level=none.", {"type": "string"}),
        ("X-Width", "Width of the result, pixels.", _WHOLE),
        ("X-Height", "Height of the result, pixels.", _WHOLE),
        *(
            (f"X-Foreground-{side}", "The people in the result, pixels.", _WHOLE)
            for side in ("Top", "Left", "Width", "Height")
        ),
        ("X-Credits-Charged", "Always 0.", _WHOLE),
        (
            "X-Expected-IoU",
            "How good cut-outs with such an answer of the network were on average, as intersection over union.",
            _SHARE,
        ),
    )
}

SECURITY_SCHEMES = {"ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses with an error body."""
    content = {"application/json": {"schema": ERROR_SCHEMA}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


def removebg_responses() -> dict[int | str, dict[str, Any]]:
    """Everything that ``POST /v1.0/removebg`` may answer."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    found = {
        "description": "The result: a picture, or JSON for `Accept: application/json`",
        "headers": RESULT_HEADERS,
        "content": {
            "application/json": {"schema": RESULT_SCHEMA},
            **dict.fromkeys(("image/png", "image/jpeg", "image/webp", "application/zip"), picture),
        },
    }
    return {200: found, **errors(400, 403, 408, 413, 415, 429, 500, 503)}


def removebg_body() -> dict[str, Any]:
    """The request body in its three content types."""
    everything = {
        name: {key: value for key, value in schema.items() if key != "title" and value is not None}
        for name, schema in Wanted.model_json_schema()["properties"].items()
    }
    texts = {name: schema for name, schema in everything.items() if name not in FILES}
    kinds = {
        "multipart/form-data": (everything, SOURCES),
        "application/json": (texts, [s for s in SOURCES if s not in FILES]),
        "application/x-www-form-urlencoded": (texts, [s for s in SOURCES if s not in FILES]),
    }
    return {
        "required": True,
        "content": {
            kind: {
                "schema": {
                    "type": "object",
                    "properties": properties,
                    "oneOf": [{"required": [source]} for source in sources],
                }
            }
            for kind, (properties, sources) in kinds.items()
        },
    }
