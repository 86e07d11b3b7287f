"""Cutting people out of photos as tools of the Model Context Protocol (extra ``mcp``); ``bgclient mcp`` runs it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from bgclient._files import write_atomically
from bgclient.client import Client
from bgclient.errors import BgError, FolderNotAllowed, InternalError, OptionError, TargetError
from bgclient.results import Cutout

P = ParamSpec("P")
T = TypeVar("T")

AT_A_TIME = 2
"""Photos that are cut at a time, whatever is asked: each holds its pixels."""

Photo = Annotated[str, Field(description="Path of the photo, in an allowed folder.")]
Output = Annotated[
    str | None,
    Field(
        description="Path of the PNG to write, in an allowed folder; a file that exists is never overwritten. "
        "Without: next to the photo."
    ),
]
People = Annotated[
    str, Field(description='"subjects" (everybody but passers-by), "all", or "main" (one person).')
]


@dataclass(frozen=True)
class Checked:
    """What a photo shows."""

    people: Annotated[bool, Field(description="True where a person was found.")]
    box: Annotated[
        tuple[int, int, int, int] | None,
        Field(description="Left, top, right, bottom of the people, pixels of the upright photo."),
    ]
    expected_iou: Annotated[
        float,
        Field(description="0..1: how well the matte is expected to cover the people; look at it below 0.8."),
    ]


@dataclass(frozen=True)
class Written(Checked):
    """A picture that was written."""

    path: Annotated[str, Field(description="Absolute path of the PNG.")]
    width: Annotated[int, Field(description="Of the PNG, pixels.")]
    height: Annotated[int, Field(description="Of the PNG, pixels.")]
    dropped: Annotated[
        tuple[str, ...],
        Field(description="What the photo's file held and the PNG does not: XMP, C2PA, HDR gain map."),
    ]


class Folders:
    """Folders that may be read and written, with everything in them. Links are followed before they are compared."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """At least one; each exists.

        Raises:
            OptionError: one is not a folder.
        """
        self._folders = tuple(Path(os.path.realpath(folder)) for folder in folders)
        for folder in self._folders:
            if not folder.is_dir():
                raise OptionError(f"--folder {folder}: not a folder")

    def __str__(self) -> str:
        return ", ".join(map(str, self._folders))

    def path(self, name: str) -> Path:
        """Where ``name`` leads, without links; a relative one begins in the first folder.

        Raises:
            FolderNotAllowed: outside of every folder.
            OptionError: not a path.
        """
        try:
            path = Path(os.path.realpath(self._folders[0] / name))
        except ValueError as error:  # a NUL
            raise OptionError(f"{name!r}: not a path") from error
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise FolderNotAllowed(f"{name}: leads outside of the allowed folders ({self})")
        return path


def server_of(client: Client, folders: Iterable[Path]) -> MCPServer:
    """The server with the tools ``cut``, ``matte`` and ``check``; ``.run()`` speaks on stdin and stdout.

    Args:
        client: cuts the photos; its limits apply.
        folders: what may be read and written; relative paths begin in the first one.
    """
    allowed = Folders(folders)
    turns = threading.BoundedSemaphore(AT_A_TIME)
    server = MCPServer(
        "bgclient",
        version=metadata.version("bgclient"),
        instructions=f"Cuts people out of photos in these folders: {allowed}. Relative paths begin in the first one.",
        log_level="WARNING",
    )

    def write(made: Cutout, target: Path) -> Written:
        try:
            write_atomically(target, made.png(), overwrite=False)
        except FileExistsError as error:
            raise _taken(target) from error
        height, width = made.size_hw
        return Written(
            **_facts(made), path=str(target), width=width, height=height, dropped=tuple(made.dropped)
        )

    def target_of(photo: Path, output: str | None, ending: str) -> Path:
        target = allowed.path(output or str(photo.with_name(f"{photo.stem}-{ending}.png")))
        if target.suffix.lower() != ".png":
            raise OptionError(f"{output}: a PNG is written; let its name end in .png")
        if os.path.lexists(target):  # before the work
            raise _taken(target)
        return target

    @server.tool(title="Cut people out of a photo", annotations=_WRITES)
    @_in_sentences
    def cut(
        photo: Photo,
        output: Output = None,
        people: People = "subjects",
        background: Annotated[
            str | None,
            Field(description='A colour such as "white" or "#ff8800", or "blur"; without: transparent.'),
        ] = None,
        crop: Annotated[bool, Field(description="Crop to the people.")] = False,
    ) -> Written:
        """Cut the people out of a photo, at its full resolution, and write them as a PNG."""
        source = allowed.path(photo)
        target = target_of(source, output, "cut")
        with turns:
            made = client.cut(source, people=people, background=background, crop=crop, require_person=True)
            return write(made, target)

    @server.tool(title="Write the matte of a photo", annotations=_WRITES)
    @_in_sentences
    def matte(photo: Photo, output: Output = None, people: People = "subjects") -> Written:
        """Write the people's alpha as a grey PNG of the photo's size: white is a person, black is not."""
        source = allowed.path(photo)
        target = target_of(source, output, "matte")
        with turns:
            return write(client.cut(source, output="matte", people=people), target)

    @server.tool(title="Look at a photo", annotations=_READS)
    @_in_sentences
    def check(photo: Photo, people: People = "subjects") -> Checked:
        """Say whether people are in a photo, where, and how good a cut-out is expected to be. Nothing is written."""
        source = allowed.path(photo)
        with turns:
            return Checked(**_facts(client.cut(source, output="matte", people=people)))

    return server


_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def _taken(target: Path) -> TargetError:
    return TargetError(f"{target}: exists and is not overwritten; name another output")


def _facts(made: Cutout) -> dict[str, Any]:
    return {"people": made.box is not None, "box": made.box, "expected_iou": round(made.expected_iou, 4)}


def _in_sentences(tool: Callable[P, T]) -> Callable[P, T]:
    """Every failure as ``code: sentence``: the caller's model reads it."""

    @functools.wraps(tool)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except BgError as error:
            raise ToolError(error.message()) from error
        except Exception as error:
            raise ToolError(InternalError.of(error).message()) from error

    return called
