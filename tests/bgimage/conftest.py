"""Small photos whose every pixel is known, and what a network would say of them."""

import io

import numpy as np
import pytest
from PIL import Image

from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.geometry import Letterbox

RED, GREEN, BLUE, GREY = (254, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


@pytest.fixture(scope="session")
def contract():
    return Contract()


@pytest.fixture
def astronaut(root):
    """uint8 (512, 512, 3), RGB: a real photo of one person."""
    return decode((root / "examples/astronaut.png").read_bytes()).pixels


@pytest.fixture(scope="session")
def answer(contract):
    """From the alpha of a photo, any size, to the network's answer for it: float32 (S, S)."""
    import cv2

    def make(alpha):
        box = Letterbox.fit(alpha.shape, contract)
        whole = np.zeros(contract.size_hw, np.float32)
        shrinks = alpha.shape[0] > box.height
        whole[box.rows, box.columns] = cv2.resize(
            alpha.astype(np.float32),
            (box.width, box.height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST,
        )
        return whole

    return make


@pytest.fixture(scope="session")
def saved():
    """Bytes of an array or PIL image in a format of Pillow's."""

    def save(pixels, format, **settings):
        out = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(out, format, **settings)
        return out.getvalue()

    return save


@pytest.fixture(scope="session")
def corners():
    """uint8 (40, 60, 3): four quarters of four colours, so that every turn and mirror image differs."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30], pixels[20:, 30:] = RED, GREEN, BLUE, GREY
    return pixels


@pytest.fixture(scope="session")
def disc():
    """float32 (480, 640): alpha of a disc of radius 120 with a rim 8 pixels wide."""
    y, x = np.mgrid[:480, :640]
    return np.clip((120 - np.hypot(y - 240, x - 320)) / 8 + 0.5, 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def disc_photo(disc):
    """uint8 (480, 640, 3): a red disc on a green ground, mixed by ``disc``."""
    mixed = disc[..., None] * np.array(RED) + (1 - disc[..., None]) * np.array(GREEN)
    return np.rint(mixed).astype(np.uint8)
