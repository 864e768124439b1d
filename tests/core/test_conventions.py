"""What holds for every check and every report format, whoever wrote it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from diag import registry
from diag.check import Check
from diag.model import OWNERS, Status, Verdict
from diag.runner import VERDICTS

CHECKS = registry.checks().checks
FAMILIES = {
    "base", "check", "clock", "cloud", "auth", "dns", "git", "http", "input", "perm", "proxy",
    "rate", "repos", "server", "steady", "tcp", "tls", "version", "vantage", "ports", "permission",
    "webhook",
}  # fmt: skip
DECLARED = [(check, verdict) for check in CHECKS for verdict in check.verdicts()]
ROOT = Path(inspect.getfile(registry)).parents[1]


def modules(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_is_documented_and_named_like_its_file(check: type[Check]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.id)
    assert Path(inspect.getfile(check)).stem.rstrip("_") == check.id.replace("-", "_")
    assert len(check.documentation()) > 60
    assert (
        check.title[0].islower() or check.title.split()[0].isupper() or "Bitbucket" in check.title
    )
    assert not check.title.endswith(".")


@pytest.mark.parametrize(
    ("check", "verdict"), DECLARED, ids=[f"{c.id}:{v.code}" for c, v in DECLARED]
)
def test_a_verdict_can_be_acted_on(check: type[Check], verdict: Verdict) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", verdict.code)
    assert verdict.code.split("-")[0] in FAMILIES
    assert verdict.owner in OWNERS
    assert verdict.message
    assert verdict.message[-1] not in ".\n " or verdict.message.endswith(".")
    if verdict.status in (Status.FAIL, Status.WARN, Status.UNKNOWN):
        assert len(verdict.remedy) > 10, "nobody knows what to do"
    if verdict.status in (Status.FAIL, Status.WARN):
        assert verdict.reproduce, "nobody can see it for themselves"
    for text in (verdict.message, verdict.remedy, *verdict.reproduce):
        assert "\n" not in text or text is verdict.remedy


def test_a_code_is_declared_once_or_shared_as_one_object() -> None:
    seen: dict[str, Verdict] = {}
    for _, verdict in DECLARED:
        assert seen.setdefault(verdict.code, verdict) is verdict, verdict.code
    for verdict in VERDICTS:
        assert verdict.code not in seen


def test_what_a_verdict_explains_exists() -> None:
    codes = {verdict.code for _, verdict in DECLARED}
    for check, verdict in DECLARED:
        assert set(verdict.explains) <= codes, (check.id, verdict.code)


def test_every_fact_that_is_needed_is_given_by_an_earlier_check() -> None:
    for check in CHECKS:
        for fact in check.requires:
            givers = [other for other in CHECKS if fact in other.provides]
            assert givers, (check.id, fact.__name__)
            assert min(giver.order for giver in givers) < check.order, (check.id, fact.__name__)


@pytest.mark.parametrize("path", modules("checks") + modules("reports"), ids=lambda path: path.stem)
def test_a_plugin_imports_the_api_the_standard_library_and_nothing_else(path: Path) -> None:
    import sys

    allowed = set(sys.stdlib_module_names) | {"diag.api", "__future__"}
    if path.parent.name == "reports":
        allowed.add("tabulate")
    forbidden = {"socket", "ssl", "http", "urllib.request", "subprocess", "asyncio"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name in allowed or name.split(".")[0] in allowed, f"{path.name} imports {name}"
            assert name not in forbidden, f"{path.name} imports {name}"


@pytest.mark.parametrize("name", registry.formats())
def test_a_format_is_documented(name: str) -> None:
    renderer = registry.renderer(name)
    assert callable(renderer.render)
    assert (inspect.getdoc(renderer) or "").strip()


def test_the_secret_is_revealed_in_few_places() -> None:
    """`reveal` is called by the header builder and the scrubber, and where a secret is judged by
    its form before it is used."""
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("diag", "checks", "reports")
        for path in (ROOT / folder).rglob("*.py")
        if ".reveal()" in path.read_text(encoding="utf-8")
    ]
    assert set(users) <= {"diag/secret.py", "diag/tokens.py"}


def test_only_the_network_package_opens_sockets() -> None:
    banned = {"socket", "ssl", "httpx", "httpcore", "dns"}
    for path in (ROOT / "diag").rglob("*.py"):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(("diag/net/", "diag/simulator/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in banned, f"{place} imports {name}"
