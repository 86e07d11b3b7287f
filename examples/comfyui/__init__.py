"""A ComfyUI node that cuts people out of pictures by a bgclient server: see README.md in this folder.

ComfyUI brings PyTorch; bgclient does not need it, and nothing is imported before the first picture.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from bgclient import Client


@functools.cache
def client_of(url: str) -> Client:
    """One client an address, whose connections stay open from run to run."""
    from bgclient import Client

    return Client(url)


class CutPeople:
    """Pictures to the people in them, and their alpha as a mask."""

    CATEGORY = "image/bgclient"
    FUNCTION = "cut"
    RETURN_TYPES = ("IMAGE", "MASK", "FLOAT")
    RETURN_NAMES = ("people", "mask", "expected_iou")
    DESCRIPTION = "Cuts people out by a bgclient server. The mask is 1 where somebody is."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "image": ("IMAGE",),
                "url": ("STRING", {"default": "localhost:8001"}),
                "people": (["subjects", "all", "main"],),
                "at_least": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.05}),
            }
        }

    def cut(
        self, image: torch.Tensor, url: str, people: str, at_least: float
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """The people of every picture of a batch.

        Args:
            image: float (B, H, W, 3), RGB, 0..1.
            url: the server's address.
            people: as bgclient's option of that name.
            at_least: as bgclient's option of that name; 0: every cut-out is taken.

        Returns:
            float (B, H, W, 3): the people's colours without the old background's tint, black where nobody is; float
            (B, H, W): their alpha, 0..1; the least expected IoU of the batch.

        Raises:
            BgError: as ``bgclient.cut``; ComfyUI shows its sentence.
        """
        import numpy as np
        import torch

        depth = 65535  # 16 bits: what another node computed is not rounded to 8
        pictures = (image.cpu().numpy().clip(0, 1) * depth).round().astype(np.uint16)
        found = client_of(url).cut_many(list(pictures), people=people, at_least=at_least)
        cutouts = [outcome.unwrap() for outcome in found]
        rgba = torch.from_numpy(np.stack([cutout.pixels for cutout in cutouts]).astype(np.float32) / depth)
        return rgba[..., :3].contiguous(), rgba[..., 3].contiguous(), min(one.expected_iou for one in cutouts)


NODE_CLASS_MAPPINGS = {"BgclientCutPeople": CutPeople}
NODE_DISPLAY_NAME_MAPPINGS = {"BgclientCutPeople": "Cut people out (bgclient)"}
