"""docs/rest.md against the code: parameters, error codes and settings."""

import dataclasses
import re
from typing import get_args, get_type_hints

import pytest

from bgclient.web.errors import _NAMED
from bgclient.web.parameters import SOURCES, Wanted
from bgclient.web.settings import Settings

SCHEMAS = Wanted.model_json_schema()["properties"]


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "rest.md").read_text()


def rows(page, heading):
    """The cells of the table below a heading's first line of dashes, by the names in its first cell."""
    found = {}
    for line in page.partition(heading)[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = " ".join(cells[1:])
    return found


def test_the_page_lists_every_parameter_and_no_other(page):
    assert set(rows(page, "## Request")) | set(SOURCES) == set(Wanted.model_fields)
    assert all(f"`{name}`" in page for name in SOURCES)


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "enum" in schema])
def test_the_page_names_every_value_of_a_parameter_with_the_default_first(page, name):
    named = re.findall(r"`([^`]+)`", rows(page, "## Request")[name])
    values = SCHEMAS[name]["enum"]
    assert set(values) <= set(named)
    assert next(value for value in named if value in values) == SCHEMAS[name]["default"]


def test_the_page_has_the_code_of_every_error(page):
    codes = page.partition("Errors are")[2].partition("\n## ")[0].lower()
    assert [code for _, code, _ in _NAMED.values() if f"`{code}`" not in codes] == []


def test_the_page_lists_every_setting_and_no_other(page):
    named = {
        name.removeprefix("BGCLIENT_WEB").removeprefix("_").lower() for name in rows(page, "## Settings")
    }
    assert {field.name for field in dataclasses.fields(Settings)} == named


def test_a_size_of_the_result_is_a_size_of_the_documentation():
    from bgclient.web.parameters import MAX_PIXELS

    hints = get_type_hints(Wanted)
    assert set(get_args(hints["size"])) == set(MAX_PIXELS)
