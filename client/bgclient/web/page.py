"""The page and its files, in the folder ``static``: no build step, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from bgclient.web.settings import Settings

STATIC = Path(__file__).with_name("static")

ON_DEVICE = (
    "vendor/ort.wasm.bundle.min.mjs",
    "vendor/ort-wasm-simd-threaded.wasm.gz",
    "vendor/ort-wasm-simd-threaded.mjs",
    "network.onnx",
)
"""What "on this device" needs: ``make web-assets`` and a wheel's build fetch the runtime, ``bgexport`` the network."""


def missing_assets() -> list[str]:
    """Those of ``ON_DEVICE`` that are not there."""
    return [name for name in ON_DEVICE if not (STATIC / name).is_file()]


def add(app: FastAPI, settings: Settings) -> None:
    """Routes of the page, where it is wanted, and of the API's description."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html", headers=_FRESH)

    @app.get("/static/vendor/ort-wasm-simd-threaded.wasm", include_in_schema=False)
    async def runtime() -> FileResponse:
        """14 MB, stored and sent as 4 MB of gzip; every browser with WebAssembly reads it."""
        packed = STATIC / "vendor" / "ort-wasm-simd-threaded.wasm.gz"
        if not packed.is_file():
            raise HTTPException(404)
        headers = {"Content-Encoding": "gzip", "Cache-Control": "max-age=86400"}
        return FileResponse(packed, media_type="application/wasm", headers=headers)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    if not settings.page:
        return

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_FRESH)

    @app.get("/page.json", include_in_schema=False)
    async def facts() -> dict[str, Any]:
        missing = missing_assets()
        return {
            "key_needed": bool(settings.api_keys),
            "max_upload_bytes": settings.max_upload_bytes,
            "on_device": not missing,
            "missing": missing,
            "version": app.version,
        }


_FRESH = {"Cache-Control": "no-cache"}
