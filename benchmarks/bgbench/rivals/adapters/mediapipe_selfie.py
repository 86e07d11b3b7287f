"""MediaPipe's selfie segmentation: 0 general (256 x 256), 1 landscape (256 x 144)."""

import io
import time

from common import arguments, serve

started = time.perf_counter()
import cv2  # noqa: E402
import mediapipe  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402

parser = arguments()
parser.add_argument("--model", type=int, required=True)
args = parser.parse_args()
network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=args.model)


def split(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Upright colours and matte, uint8."""
    colours = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    alpha = network.process(colours).segmentation_mask
    return colours, (alpha.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def cutout(data: bytes) -> bytes:
    """PNG with the colours and the matte, by OpenCV, whose default is its fastest setting."""
    colours, matte = split(data)
    picture = cv2.cvtColor(colours, cv2.COLOR_RGB2BGRA)
    picture[..., 3] = matte
    return cv2.imencode(".png", picture)[1].tobytes()


serve(
    args,
    rival="mediapipe",
    packages=["mediapipe", "pillow", "numpy"],
    device="CPU (TensorFlow Lite XNNPACK)",
    load_s=time.perf_counter() - started,
    alpha=lambda data: split(data)[1],
    cutout=cutout,
    save=lambda matte, path: Image.fromarray(matte).save(path, compress_level=1),
)
