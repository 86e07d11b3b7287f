"""Runs when a wheel is built: fetches what the web page needs to cut photos in the visitor's browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebAssets(BuildHookInterface[Any]):
    """Without npm the wheel is built all the same; its page then leaves "on this device" out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the files of the wheel are gathered."""
        if version == "editable":
            return
        spec = importlib.util.spec_from_file_location(
            "assets", Path(self.root) / "client/bgclient/web/assets.py"
        )
        assert spec
        assert spec.loader
        assets = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(assets)
        if (assets.VENDOR / "ort-wasm-simd-threaded.wasm.gz").is_file():
            return
        try:
            assets.fetch_runtime()
        except assets.AssetError as error:
            self.app.display_warning(f"web page without on-device mode: {error}")
