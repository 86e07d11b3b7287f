"""AVIF as Pillow reads it, but for its look at the EXIF block, which unpacks a value of millions of numbers."""

from __future__ import annotations

from PIL import AvifImagePlugin, _avif


class AvifPhoto(AvifImagePlugin.AvifImageFile):
    """An opened AVIF; ``turned``: the EXIF orientation that its own boxes stand for, which goes before the block's."""

    turned: int

    def _open(self) -> None:
        assert self.fp is not None
        self._decoder = _avif.AvifDecoder(
            self.fp.read(), AvifImagePlugin.DECODE_CODEC_CHOICE, AvifImagePlugin._get_default_max_threads()
        )
        self._size, self.n_frames, self._mode, icc, exif, self.turned, _ = self._decoder.get_info()
        self.is_animated = self.n_frames > 1
        found = {"icc_profile": icc, "exif": exif}
        self.info |= {name: value for name, value in found.items() if value}
        self.seek(0)
