"""Markdown tables, and the pages that hold them: every generated table of this project is written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table without a trailing newline; a ``|`` inside a cell is escaped."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def of_records(rows: Sequence[Mapping[str, str]], *, last: str = "") -> str:
    """A table of rows that map column to cell; "" without rows.

    Columns come as they first appear, ``last`` at the end; columns without any value are left out, "-" fills gaps.
    """
    heads = [
        head
        for head in dict.fromkeys(head for row in rows for head in row)
        if any(row.get(head) for row in rows)
    ]
    heads.sort(key=lambda head: head == last)
    cells = [[row.get(head) or ("" if head == last else "-") for head in heads] for row in rows]
    return markdown(heads, cells) if rows else ""


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between two marks of ``page``. ``ValueError`` where one is missing."""
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{page} lacks the marks {begin!r} and {end!r}; put them where the text belongs")
    page.write_text(f"{head}{begin}\n{text}{end}{tail}", encoding="utf-8")
