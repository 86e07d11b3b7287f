"""What an installation of ``bgclient[local]`` takes: its size, and the first cut-out of a fresh process.

    python -m bgbench fresh --rival                        this Python, with pip, and rembg's size
    python -m bgbench fresh --add --uv                     the same with uv
    python -m bgbench fresh --add --python python3.13      another Python

The package is built from the checkout (after ``make web-assets`` with the page's runtime, as a release) and installed
into a new virtual environment. rembg, which does the same task in the caller's process, goes into another and is not
run: it downloads its network when it is first called. ``--uv`` needs uv in the environment of this program.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bgbench import command, environment
from bgbench.results import Case, Result, Series
from bgtrain import tables

OURS, RIVAL = "bgclient[local]", "rembg[cpu,cli]"
PHOTO = environment.ROOT / "examples" / "grace_hopper.jpg"
RUNS = 6
"""Fresh processes; the first of them finds modules that were never imported."""
TIMES = {"install, CPU": 0, "import, CPU": 2, "first cut-out, CPU": 2}
"""Columns of the table, to their decimals."""
BEGIN, END = "<!-- fresh: written by python -m bgbench fresh -->", "<!-- end of fresh -->"

_FIRST_CUT = """
import json, os, sys, time

os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])

def now():
    return time.perf_counter(), time.process_time()

begin = now()
from bgclient import cut
imported = now()
assert cut(sys.argv[1]).png()
done = now()
print(json.dumps({
    "import": imported[0] - begin[0], "import, CPU": imported[1] - begin[1],
    "first cut-out": done[0] - imported[0], "first cut-out, CPU": done[1] - imported[1],
}))
"""


def measure(python: str, installer: str, *, rival: bool = False) -> Iterator[Case]:
    """Install the package, and cut a photo in fresh processes.

    Args:
        python: the interpreter, as the shell finds it.
        installer: "pip" or "uv".
        rival: install rembg too.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command.output(
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, environment.ROOT
        )
        (wheel,) = folder.glob("bgclient-*.whl")
        for package, requirement in [(OURS, f"{wheel}[local]"), *[(RIVAL, RIVAL)] * rival]:
            made = folder / package.partition("[")[0]
            binary = made / "bin" / "python"
            if installer == "uv":
                command.output(python, "-m", "venv", "--without-pip", made)
                install = [sys.executable, "-m", "uv", "pip", "install", "--python", binary]
            else:
                command.output(python, "-m", "venv", made)
                install = [binary, "-m", "pip", "install"]
            empty = megabytes(made)
            with environment.watching() as watch:
                clock, busy = time.perf_counter(), environment.own_s()
                command.output(*install, "--quiet", requirement)
                took = {"install": time.perf_counter() - clock, "install, CPU": environment.own_s() - busy}
                series = {
                    name: Series(unit="s", values=[round(seconds, 2)]) for name, seconds in took.items()
                }
                series["installed"] = Series(unit="MB", values=[round(megabytes(made) - empty, 1)])
                if package == OURS:
                    series |= first_cuts(binary)
            about = "import platform; print(platform.python_version(), *platform.libc_ver())"
            version, *libc = command.output(binary, "-c", about).split()
            yield Case(
                scenario="fresh",
                setting={
                    "python": version,
                    "installer": installer,
                    "package": package,
                    "libc": " ".join(libc),
                },
                tool="timer",
                series=series,
                others=watch.others,
            )


def first_cuts(python: Path | str, runs: int = RUNS) -> dict[str, Series]:
    """Seconds of import and first cut-out in fresh processes, by the clock and of CPU time.

    On one core: threads that wait for others on a busy machine would count as work. Without PYTHONPATH and its like,
    which put other code and rules in the place of what was installed.
    """
    rows = [json.loads(command.output(python, "-I", "-c", _FIRST_CUT, PHOTO)) for _ in range(runs)]
    return {
        name: Series(unit="s", warm_up=[rows[0][name]], values=[row[name] for row in rows[1:]])
        for name in rows[0]
    }


def megabytes(folder: Path) -> float:
    """What the files of a folder take on the disk, as ``du`` counts it."""
    files = {(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for stat in map(Path.lstat, folder.rglob("*"))}
    return sum(files.values()) / 1e6


def table(result: Result) -> str:
    """Markdown: a row for each Python, installer and package."""
    head = ["Python", "installed with", "package", "MB on disk", *(f"{name} s" for name in TIMES)]
    rows = []
    for case in sorted(result.of("fresh"), key=_order):
        about = (case.setting["python"], case.setting["installer"], f"`{case.setting['package']}`")
        times = [
            f"{case.value(name):.{places}f}" if name in case.series else "-" for name, places in TIMES.items()
        ]
        rows.append([*about, f"{case.value('installed'):.0f}", *times])
    return tables.markdown(head, rows)


def _order(case: Case) -> tuple[object, ...]:
    setting = case.setting
    return (
        [int(part) for part in setting["python"].split(".")],
        setting["installer"],
        setting["package"] != OURS,
    )


def update(document: Path, result: Result) -> None:
    """Put the table between the marks of ``document``. ``ValueError`` where it has none."""
    tables.replace_between(document, BEGIN, END, f"\n{table(result)}\n\n")
