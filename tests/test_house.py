"""The house keeps its own rules: imports, links, commands, public names."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", "runs", ".cache"} & set(path.relative_to(ROOT).parts)
)
PUBLISHED = ("tiramisu", "tiramisu-lite")
"""Networks whose scores the pages show: the served one, and the one served before it."""
HEAVY = ("torch", "onnxruntime", "openvino", "grpc", "httpx", "fastapi", "cv2", "PIL", "rich", "typer", "mcp")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_nobody_imports_what_the_house_rules_forbid():
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    # a process of its own: import-linter silences every logger that it did not make
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_importing_the_client_loads_nothing_heavy():
    loaded = python(
        "import sys, bgclient; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    ).split()
    assert not set(HEAVY) & set(loaded)


def test_importing_the_server_launcher_loads_no_network_engine():
    loaded = python(
        "import sys, bgserver; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    ).split()
    assert not {"torch", "onnxruntime", "openvino"} & set(loaded)


def test_an_error_s_code_means_one_error_in_all_packages():
    codes = python(
        """
import bgbench.errors, bgclient.errors, bgclient.web.errors, bgexport.errors, bgserver.errors, bgtrain.errors
from bgimage.errors import BgError
def codes(kind):
    yield kind.code
    for child in kind.__subclasses__():
        yield from codes(child)
print(*codes(BgError))
"""
    ).split()
    assert len(codes) > 30
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_every_bgclient_command_of_the_readme_exists():
    named = set(re.findall(r"^bgclient ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    help_text = subprocess.run(
        [sys.executable, "-m", "bgclient", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert named
    for command in named:
        assert re.search(rf"\b{command}\b", help_text), command


def test_the_public_names_are_the_documented_ones():
    import bgclient

    wanted = {"cut", "acut", "cut_many", "acut_many", "Client", "AsyncClient", "Cutout"}
    assert wanted <= set(bgclient.__all__)
    for name in bgclient.__all__:
        assert getattr(bgclient, name).__doc__, f"bgclient.{name} has no docstring"


def test_no_import_has_a_side_effect_on_standard_output_or_error():
    code = "import bgimage, bgclient, bgserver"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == done.stderr == ""


def test_the_figures_on_the_pages_are_those_of_the_committed_results(tmp_path):
    publish = pytest.importorskip("bgtrain.publish", reason="needs the extra train")
    shutil.copytree(ROOT / "training/results", tmp_path / "training/results")
    pages = ("README.md", "docs/model-card.md", "docs/pixels.md")
    for page in pages:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    result, before = (publish.read_result(ROOT / f"training/results/{name}-test.json") for name in PUBLISHED)
    publish.publish(result, before, root=tmp_path)
    assert all((tmp_path / page).read_text() == (ROOT / page).read_text() for page in pages)


def test_a_class_name_means_one_class_in_all_packages():
    folders = ("client", "training", "export", "benchmarks", "model_repository")
    places = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    # Triton looks for its class by name; both packages are configured by their Settings
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert set(twice) <= {"TritonPythonModel", "Settings"}, twice
