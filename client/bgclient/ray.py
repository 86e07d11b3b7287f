"""Cut-outs at scale with Ray Data (extra ``ray``): a class for ``map_batches``.

>>> photos = ray.data.read_binary_files("s3://bucket/photos", include_paths=True)
>>> cutouts = photos.map_batches(Cutter, fn_constructor_kwargs={"url": "triton:8001"}, batch_size=32, concurrency=8)
>>> cutouts.write_parquet("s3://bucket/cutouts")

Nothing of Ray is imported here: Ray pickles the class, makes one in each of its workers, and hands it batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from bgclient.errors import TransportError

if TYPE_CHECKING:
    from bgclient.client import Client
    from bgclient.options import CutOptions, Where
    from bgclient.results import Outcome

Batch = dict[str, np.ndarray[Any, Any]]
"""Columns of equal length by name, as ``batch_format="numpy"`` gives them."""


class Cutter:
    """Batch in, batch out: adds ``cutout`` (bytes), ``expected_iou`` (float32), ``box`` (4 int32) and ``error`` (text).

    A photo that cannot be cut has an empty ``cutout`` and "code: sentence" in ``error``; its neighbours are cut. Where
    the server is at fault the batch fails instead, so that Ray retries it or stops the job: a server that is down is
    not a property of the photos.

    Args:
        url: as for ``Client``; where it is None and BGCLIENT_URL is not set in the workers, each runs the network
            itself, on the cores that Ray gives it.
        photo: the column of photos: encoded bytes, or pixels as ``ray.data.read_images`` gives them.
        keep_photo: keep that column; without it, results are small.
        transport_errors: "raise", or "column" to treat the server's errors like a photo's.
        in_flight: photos at a time in each worker.
        where: as for ``Client.cut``.
        client: makes the client in each worker, instead of ``Client(url)``.
        options: as for ``Client.cut``; checked here, before the job starts.

    Raises:
        OptionError: an option that does not exist or does not fit.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        photo: str = "bytes",
        keep_photo: bool = False,
        transport_errors: str = "raise",
        in_flight: int = 8,
        where: Where = "client",
        client: Callable[[], Client] | None = None,
        **options: Unpack[CutOptions],
    ) -> None:
        from bgclient.client import Client
        from bgimage.options import Options

        if transport_errors not in ("raise", "column"):
            raise ValueError(f"transport_errors={transport_errors!r}: use 'raise' or 'column'")
        asked = Options.of(**options)
        self._photo = photo
        self._keep_photo = keep_photo
        self._tolerant = transport_errors == "column"
        self._how: dict[str, Any] = {"options": asked, "in_flight": in_flight, "where": where}
        self._client = client() if client else Client(url)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the new columns, in its order.

        Raises:
            TransportError: the server cannot be reached, is busy, too slow, or broken.
            KeyError: no column of that name; the message lists those that are there.
        """
        if self._photo not in batch:
            raise KeyError(f"no column {self._photo!r}; there are {sorted(batch)}: give photo=")
        outcomes = list(self._client.cut_many(list(batch[self._photo]), **self._how))
        for outcome in outcomes:
            if isinstance(outcome.error, TransportError) and not self._tolerant:
                raise outcome.error
        kept = {name: column for name, column in batch.items() if self._keep_photo or name != self._photo}
        return kept | {
            "cutout": _objects([_encoded(outcome) for outcome in outcomes]),
            "expected_iou": np.array(
                [o.cutout.expected_iou if o.cutout else 0.0 for o in outcomes], np.float32
            ),
            "box": np.array(
                [(o.cutout and o.cutout.box) or (0, 0, 0, 0) for o in outcomes], np.int32
            ).reshape(-1, 4),
            "error": _objects([o.error.message() if o.error else "" for o in outcomes]),
        }


def _encoded(outcome: Outcome[Any]) -> bytes:
    return outcome.cutout.encode() if outcome.cutout else b""


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    """An array of Python objects; numpy's own texts and bytes are padded to the longest."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
