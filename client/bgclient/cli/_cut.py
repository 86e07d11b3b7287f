"""``bgclient cut``."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bgclient._files import remove_parts
from bgclient.cli._console import CommandError, Status, say
from bgclient.cli._plan import SUFFIX_OF, Job, Plan, folder_jobs, is_url, plan
from bgclient.cli._run import JobRunner, RunSummary, run_many, watch
from bgclient.cli._server_options import PANEL, with_client
from bgclient.client import Client
from bgclient.errors import OptionError, TargetError
from bgclient.fetch import Fetcher
from bgclient.options import Where
from bgclient.results import format_of

if TYPE_CHECKING:
    from bgimage.options import Options

_picture: Callable[..., Any] = partial(typer.Option, rich_help_panel="Picture")
_file: Callable[..., Any] = partial(typer.Option, rich_help_panel="Files")
_server: Callable[..., Any] = partial(typer.Option, rich_help_panel=PANEL)


@with_client
def cut(
    connect: Callable[..., Client],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="A photo, a folder, or - for stdin; then the file or folder to write, or - for stdout. "
            "Default: NAME-cut.png next to the photo.",
            show_default=False,
        ),
    ],
    only_mask: Annotated[bool, _picture("--only-mask", "-om", help="The matte as a grey picture.")] = False,
    inverse: Annotated[bool, _picture("--inverse", help="Everything but the people.")] = False,
    bgcolor: Annotated[
        str | None, _picture("--bgcolor", "-bgc", help='"white", "#ff8800", "255,136,0".')
    ] = None,
    background_image: Annotated[
        Path | None, _picture("--background-image", "-bi", help="A picture behind the people.")
    ] = None,
    blur: Annotated[
        float | None, _picture("--blur", help="Blur the photo's own background: radius in pixels.")
    ] = None,
    people: Annotated[
        str, _picture("--people", help="subjects, all, main, a point x,y or a box l,t,r,b.")
    ] = "subjects",
    keep: Annotated[
        list[str] | None,
        _picture(
            "--keep",
            help="What belongs to the cut-out: x,y, a box l,t,r,b, JSON of marks, or a file with it. May be repeated.",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None, _picture("--remove", help="What does not belong to it; as --keep.")
    ] = None,
    edges: Annotated[str, _picture("--edges", help="none or fast (along the photo's edges).")] = "fast",
    crop: Annotated[bool, _picture("--crop", help="Crop to the people.")] = False,
    margin: Annotated[str, _picture("--margin", help='Around a crop: "20px", "5%", as in CSS.')] = "0",
    canvas: Annotated[str | None, _picture("--canvas", help="WIDTHxHEIGHT of the result.")] = None,
    scale: Annotated[
        float | None, _picture("--scale", help="0.1 to 1: the people's share of the frame.")
    ] = None,
    position: Annotated[
        str, _picture("--position", help="original, center, or x,y from 0 to 1.")
    ] = "original",
    shadow: Annotated[float, _picture("--shadow", help="0 to 1: a soft shadow.")] = 0.0,
    require_person: Annotated[bool, _picture("--require-person", help="Fail if no person is found.")] = False,
    at_least: Annotated[
        float,
        _picture(
            "--at-least", help="0 to 1: look again if the expected IoU is below it; fail if it stays below."
        ),
    ] = 0.0,
    format: Annotated[
        str | None,
        _file("--format", "-f", help=f"{', '.join(SUFFIX_OF)}; default: the suffix of TARGET, else png."),
    ] = None,
    quality: Annotated[int | None, _file("--quality", "-q", help="1 to 100, for jpeg, webp, avif.")] = None,
    max_pixels: Annotated[int | None, _file("--max-pixels", help="Largest result, in pixels.")] = None,
    srgb: Annotated[bool, _file("--srgb", help="Convert to sRGB instead of keeping the profile.")] = False,
    drop_gps: Annotated[bool, _file("--drop-gps", help="Drop the place from EXIF.")] = False,
    drop_metadata: Annotated[bool, _file("--drop-metadata", help="Drop EXIF and resolution.")] = False,
    force: Annotated[bool, _file("--force", help="Overwrite what is there.")] = False,
    watch_folder: Annotated[
        bool, _file("--watch", help="Keep running, and cut new photos in the folder.")
    ] = False,
    jobs: Annotated[int, _file("--jobs", "-j", min=1, help="Photos at a time.")] = 4,
    as_json: Annotated[bool, _file("--json", help="A JSON line on stdout for each photo.")] = False,
    quiet: Annotated[bool, _file("--quiet", help="Only failures on stderr.")] = False,
    allow_urls: Annotated[
        bool, _file("--allow-urls", help="SOURCE may be a URL of the public internet.")
    ] = False,
    where: Annotated[
        Where,
        _server(
            "--where",
            help="client: send only the network's input, finish here. server: send the whole photo. "
            "auto: what needs fewer bytes.",
        ),
    ] = "client",
) -> None:
    """Cut the people out of photos.

    A folder keeps its tree. Photos whose cut-out exists are skipped, so the same command resumes a stopped run.
    Nothing is overwritten without --force. A file gets its name only when it is complete.
    """
    backgrounds = [given for given in (bgcolor, background_image, blur) if given is not None]
    if len(backgrounds) > 1 or (only_mask and (backgrounds or inverse)):
        raise CommandError(Status.USAGE, "choose one of --bgcolor, --background-image, --blur, --only-mask")
    from bgimage.options import Options

    options = Options.of(  # before anything is read or asked
        output="matte" if only_mask else "inverse" if inverse else "cutout",
        people=_numbers(people, int) if people[:1].isdigit() else people,
        keep=_marks("keep", keep),
        remove=_marks("remove", remove),
        edges=edges,
        background=_background(bgcolor, background_image, blur),
        format=format,
        quality=quality,
        crop=crop,
        margin=margin,
        canvas=None if canvas is None else _numbers(canvas.replace("x", ","), int),
        scale=scale,
        position=_numbers(position, float) if position[:1] in "0123456789." else position,
        shadow=shadow,
        require_person=require_person,
        at_least=at_least,
        max_pixels=max_pixels,
        colors="srgb" if srgb else "keep",
        drop_gps=drop_gps,
        keep_metadata=not drop_metadata,
    )
    planned = plan(paths, format)
    options = options if options.format else dataclasses.replace(options, format=_format_of(planned))
    _check(planned, options, force=force, as_json=as_json, watching=watch_folder)
    if not allow_urls and any(is_url(job.source) for job in planned.jobs):
        raise CommandError(Status.USAGE, "URLs are fetched only with --allow-urls, and from public addresses")
    _make_folder(planned, force=force)
    with connect(fetcher=Fetcher() if allow_urls else None) as client:
        runner = JobRunner(client, where, options, force=force, skip=planned.many)
        if watch_folder:
            _watch(client, runner, planned, format, jobs=jobs, as_json=as_json)
        elif planned.many:
            summary = _many(client, runner, planned, jobs=jobs, as_json=as_json, quiet=quiet)
            raise typer.Exit(summary.status)
        else:
            _one(runner, planned, as_json=as_json, quiet=quiet)


def _format_of(planned: Plan) -> str:
    """What the one target's suffix asks for; else PNG, which the names of several say."""
    target = None if planned.many else planned.jobs[0].target
    return "png" if target is None else format_of(target)


def _marks(field: str, given: list[str] | None) -> list[Any]:
    """The marks of one option: each is numbers, JSON, or the name of a file with JSON."""
    marks: list[Any] = []
    for text in given or []:
        if text[:1].isdigit() and "," in text:
            marks.append(_numbers(text, float))
            continue
        try:
            found = json.loads(text if text.lstrip()[:1] in "[{" else Path(text).read_bytes())
        except OSError as error:
            raise OptionError(
                f"--{field} {text[:100]}: neither x,y nor JSON, nor a file that can be read: {error.strerror}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise OptionError(f"--{field} {text[:100]}: not JSON: {error}") from None
        marks += found if isinstance(found, list) else [found]
    return marks


def _numbers(text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{text!r}: write numbers separated by commas") from None


def _background(
    colour: str | None, image: Path | None, blur: float | None
) -> str | tuple[int, ...] | bytes | None:
    if blur is not None:
        return f"blur:{blur:g}"
    if image is not None:
        return _read(image)
    if colour is not None and colour[:1].isdigit():
        return _numbers(colour, int)
    return colour


def _make_folder(planned: Plan, *, force: bool) -> None:
    """The folder of the cut-outs, or one sentence before the first photo is read."""
    if planned.target is not None and planned.jobs:
        try:
            planned.target.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise TargetError(f"{planned.target} exists and is not a folder; name another one") from None
        except OSError as error:
            raise TargetError.of(planned.target, error) from error
        todo = [job.target for job in planned.jobs if job.target and (force or not job.target.exists())]
        if todo and not any(map(_may_write, {_first_there(target.parent) for target in todo})):
            raise TargetError(f"{planned.target}: no permission to write there; name another folder")


def _first_there(folder: Path) -> Path:
    """``folder``, or what is there of the way to it."""
    return next((path for path in (folder, *folder.parents) if path.exists()), folder)


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _read(picture: Path) -> bytes:
    from bgclient.sources import load
    from bgimage.codec import Limits

    data = load(picture, Limits())
    assert isinstance(data, bytes)  # of a path
    return data


def _check(planned: Plan, options: Options, *, force: bool, as_json: bool, watching: bool) -> None:
    """Refuse what would fail for every photo, before the first is sent."""
    if not planned.many:
        (first,) = planned.jobs
        if first.target is None:
            if as_json:
                raise CommandError(
                    Status.USAGE, "--json and the picture cannot both go to stdout; name a TARGET"
                )
            if sys.stdout.isatty():
                raise CommandError(Status.USAGE, "stdout is a terminal; redirect it, or name a TARGET")
        else:
            _check_target(first, force=force)
    if options.format == "jpeg" and options.background is None and options.output != "matte":
        raise CommandError(Status.USAGE, "JPEG has no transparency; give --bgcolor, or --format png or webp")
    if watching and planned.folder is None:
        raise CommandError(Status.USAGE, "--watch wants one folder")


def _check_target(job: Job, *, force: bool) -> None:
    """Refuse to overwrite what is there, and with --force a photo that was meant to be cut as well."""
    target, source = job.target, Path(job.source)
    if target is None or not os.path.lexists(target):
        return
    both = f"to cut both, name a folder last: bgclient cut {shlex.join([job.source, str(target)])} cutouts/"
    if not force:
        raise CommandError(Status.USAGE, f"{target} exists; --force overwrites it; {both}")
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise CommandError(Status.USAGE, f"{target} is the photo itself; name another file")
    named_after = re.match(rf"{re.escape(source.stem)}([-_. ]|$)", target.stem)  # me-white.jpg, not me2.jpg
    if target.is_file() and not named_after and _is_opaque(target):
        raise CommandError(Status.USAGE, f"{target} may be a photo of yours and is not overwritten; {both}")


def _is_opaque(path: Path) -> bool:
    """True for a picture without transparency, which a cut-out has."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return not image.has_transparency_data
    except (OSError, SyntaxError, ValueError):
        return False


def _one(runner: JobRunner, planned: Plan, *, as_json: bool, quiet: bool) -> None:
    done = runner(planned.jobs[0])
    if as_json:
        print(done.to_json())
    if done.error is not None:
        raise done.error
    assert done.cutout is not None
    if not quiet and not as_json and done.job.target is not None:
        say(f"{done.job.target} ({done.cutout.timings.total_ms:.0f} ms, {done.cutout.timings.server})")


def _many(
    client: Client, runner: JobRunner, planned: Plan, *, jobs: int, as_json: bool, quiet: bool
) -> RunSummary:
    for folder in sorted({job.target.parent for job in planned.jobs if job.target is not None}):
        if folder.is_dir():
            remove_parts(folder)
    return run_many(
        client,
        runner,
        planned,
        in_flight=jobs,
        as_json=as_json,
        quiet=quiet,
        command=shlex.join(["bgclient", *sys.argv[1:]]),
    )


def _watch(
    client: Client, runner: JobRunner, planned: Plan, format: str | None, *, jobs: int, as_json: bool
) -> None:
    folder, into = planned.folder, planned.target
    assert folder is not None
    assert into is not None
    say(f"watching {folder}, cut-outs go to {into}; Ctrl-C ends")
    suffix = SUFFIX_OF[format or "png"]

    named: set[str] = set()

    def list_jobs() -> list[Any]:
        planned.unreadable.clear()
        found = folder_jobs(folder, into, suffix, planned)
        closed = {str(error.filename): error for error in planned.unreadable}
        for name in closed.keys() - named:
            say(f"{name}: {closed[name].strerror}; its photos are left out until it can be read")
        named.intersection_update(closed)  # one that is closed once more is named once more
        named.update(closed)
        return [job for job in found if job.target is not None and not job.target.exists()]

    summary = watch(client, runner, list_jobs, in_flight=jobs, as_json=as_json)
    say(f"{summary.cut} cut, {len(summary.failures)} failed")
    raise typer.Exit(Status.FAILED if summary.failures else Status.WELL)
