"""The pages' commands: each block is marked as run by existing tests or as needing a cloud, and links and names resolve.

A block of commands (```sh) has one or two comments right in front of it: `<!-- tested: FILE::TEST, ... -->` and
`<!-- needs: cloud -->`. Left out: whether the named test runs exactly these commands, which a reader of both can see.
"""

import ast
import functools
import importlib.util
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.pages import PAGES, ROOT, Block, parse
from trials import runner
from trials.drills import __main__ as drills
from trials.record import Section

MAKEFILE = (ROOT / "Makefile").read_text()

BLOCKS = [block for page in PAGES for block in parse(page, page.read_text())]
COMMANDS = [block for block in BLOCKS if block.language in ("sh", "bash", "shell", "console")]


def without_blocks(page: Path) -> str:
    """A page's prose: no fenced blocks, no inline code."""
    text = re.sub(r"^( *)(`{3,}).*?^\1\2$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


@functools.cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_block_of_commands_is_marked(block: Block) -> None:
    assert block.marks, f"{block}: put `<!-- tested: FILE::TEST -->` or `<!-- needs: cloud -->` in front of it (docs/develop.md)"
    assert block.marks.get("needs", "cloud") == "cloud", f"{block}: the only need that is known is `cloud`"


@pytest.mark.parametrize("block", [each for each in COMMANDS if "tested" in each.marks], ids=str)
def test_tests_that_a_block_names_exist(block: Block) -> None:
    for name in block.marks["tested"].split(","):
        file, _, test = name.strip().partition("::")
        assert (ROOT / file).is_file(), f"{block}: there is no {file}"
        assert test in functions_of(ROOT / file), f"{block}: {file} has no test {test}"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_make_targets_and_modules_in_a_block_exist(block: Block) -> None:
    for target in re.findall(r"(?:^|[;&|(]\s*)make ([a-z][a-z-]*)", block.text, re.MULTILINE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{block}: make has no target {target}"
    for module in re.findall(r"python3? -m ([\w.]+)", block.text):
        assert importlib.util.find_spec(module), f"{block}: there is no module {module}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_in_the_text_exist(page: Path) -> None:
    for target in re.findall(r"`make ([a-z][a-z-]*)", page.read_text()):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{page.name}: make has no target {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {target.name} has no heading for #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_the_text_names_by_path_exist(page: Path) -> None:
    folders = "bootstrap|ci|components|docs|images|sandbox|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+\.(?:py|md))`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name}: there is no {path}"


def test_readme_leads_to_every_page_of_the_docs() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


# --- claims of single blocks


def test_lint_and_test_are_what_continuous_integration_runs() -> None:
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert run[-2:] == ["make lint", "make test"]


def test_the_command_that_the_golden_test_names_is_the_one_in_the_page() -> None:
    command = "UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/components/test_program.py"
    assert command in (ROOT / "docs" / "develop.md").read_text()
    assert command in (ROOT / "tests" / "unit" / "components" / "test_program.py").read_text()


def test_drills_take_the_arguments_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(command: str, parts: dict[str, str], names: list[str], *_: object) -> list[Section]:
        ran.extend(names or parts)
        return []

    monkeypatch.setattr(runner, "run", run)
    # The page's `--json` writes its file there.
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "figures.md").read_text()
    commands = re.findall(r"^(?:make drills DRILLS_ARGUMENTS=|\.venv/bin/python -m trials drills )(.+)$", page, re.MULTILINE)
    for command in commands:
        assert drills.main(" ".join(shlex.split(command, comments=True)).split()) == 0
    assert ran == [*drills.DRILLS, "stock", "load", "load"]


def test_every_difference_of_the_sandbox_names_who_says_so() -> None:
    lines = (ROOT / "docs" / "sandbox-differences.md").read_text().splitlines()
    rows, sourced = 0, False
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            sourced = False
        elif cells[-1] == "who says so":
            sourced = True
        elif sourced and not line.startswith("|---"):
            rows += 1
            assert cells[-1] not in ("", "unverified"), line
    assert rows > 50
