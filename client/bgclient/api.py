"""The smallest calls: ``cut("me.jpg").save("me.png")``, by one client of each kind that the process shares."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, Unpack

from bgclient.client import AsyncClient, Client
from bgclient.options import CutOptions, Where
from bgclient.results import Cutout, Outcome, Progress
from bgclient.sources import PhotoLike

if TYPE_CHECKING:
    from bgimage.options import Options

P = TypeVar("P", bound="PhotoLike")


@functools.cache
def _client() -> Client:
    return Client()


@functools.cache
def _async_client() -> AsyncClient:
    return AsyncClient()


def cut(  # noqa: D103 - its twin's docstring, below
    photo: PhotoLike,
    options: Options | None = None,
    *,
    where: Where = "client",
    timeout_s: float | None = None,
    **changes: Unpack[CutOptions],
) -> Cutout:
    return _client().cut(photo, options, where=where, timeout_s=timeout_s, **changes)


async def acut(  # noqa: D103
    photo: PhotoLike,
    options: Options | None = None,
    *,
    where: Where = "client",
    timeout_s: float | None = None,
    **changes: Unpack[CutOptions],
) -> Cutout:
    return await _async_client().cut(photo, options, where=where, timeout_s=timeout_s, **changes)


def cut_many(  # noqa: D103
    photos: Iterable[P],
    options: Options | None = None,
    *,
    in_flight: int = 8,
    on_progress: Callable[[Progress], object] | None = None,
    where: Where = "client",
    timeout_s: float | None = None,
    **changes: Unpack[CutOptions],
) -> Iterator[Outcome[P]]:
    return _client().cut_many(
        photos,
        options,
        in_flight=in_flight,
        on_progress=on_progress,
        where=where,
        timeout_s=timeout_s,
        **changes,
    )


def acut_many(  # noqa: D103
    photos: Iterable[P],
    options: Options | None = None,
    *,
    in_flight: int = 8,
    on_progress: Callable[[Progress], object] | None = None,
    where: Where = "client",
    timeout_s: float | None = None,
    **changes: Unpack[CutOptions],
) -> AsyncIterator[Outcome[P]]:
    return _async_client().cut_many(
        photos,
        options,
        in_flight=in_flight,
        on_progress=on_progress,
        where=where,
        timeout_s=timeout_s,
        **changes,
    )


cut.__doc__ = acut.__doc__ = Client.cut.__doc__
cut_many.__doc__ = acut_many.__doc__ = Client.cut_many.__doc__
