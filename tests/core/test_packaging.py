"""The project as others get it: the wheel, and a plug-in distribution beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parents[1] / "plugin_example"
pytestmark = pytest.mark.timeout(180)  # to build and install takes several programs


def run(*argv: str | Path, cwd: Path, expect: int = 0) -> str:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def build(source: Path, into: Path) -> Path:
    """A wheel of a copy of `source`: building leaves traces in the folder it is done in."""
    copy = into / "source"
    run("git", "clone", "--quiet", "--no-hardlinks", source, copy, cwd=into) if (
        source / ".git"
    ).is_dir() else run("cp", "-r", source, copy, cwd=into)
    if (source / ".git").is_dir():  # what is not committed yet belongs to it too
        listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=source)
        for name in filter(None, listed.split("\0")):
            if (source / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                (copy / name).write_bytes((source / name).read_bytes())
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", into / "wheels", copy, cwd=into,
    )  # fmt: skip
    return next((into / "wheels").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and the example plug-in in it; returns its bin."""
    place = tmp_path_factory.mktemp("installed")
    wheel = build(ROOT, tmp_path_factory.mktemp("wheel"))
    plugin = build(PLUGIN, tmp_path_factory.mktemp("plugin"))
    venv.create(place / "venv", with_pip=False, symlinks=True)
    library = next((place / "venv" / "lib").glob("python*")) / "site-packages"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", library,
        wheel, plugin, cwd=place,
    )  # fmt: skip
    # The dependencies are those of the environment the tests run in.
    here = Path(pytest.__file__).parents[1]
    (library / "dependencies.pth").write_text(f"{here}\n", encoding="utf-8")
    return place / "venv" / "bin"


def test_the_wheel_holds_diag_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(ROOT, tmp_path)) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"diag"}
    for folder in ("checks", "reports"):
        for path in (ROOT / folder).glob("*.py"):
            assert f"diag/{folder}/{path.name}" in names
    assert "diag/py.typed" in names
    assert "diag/profiles/appcircle.toml" in names


def test_the_installed_command_runs_and_a_foreign_folder_is_never_imported(
    installed: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "checks"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('executed a stranger')", encoding="utf-8")
    python = installed / "python"
    listed = run(python, "-P", "-m", "diag", "checks", cwd=tmp_path)
    assert "base-url" in listed
    assert "executed" not in listed
    run(python, "-m", "diag", "checks", cwd=tmp_path)


def test_a_plugged_in_check_and_format_are_run(installed: Path, tmp_path: Path) -> None:
    python = installed / "python"
    listed = run(python, "-m", "diag", "checks", cwd=tmp_path)
    assert "approved-version" in listed
    assert "plugged in" in listed
    assert "approved-version" in run(
        python, "-m", "diag", "explain", "approved-version", cwd=tmp_path
    )
    report = json.loads(run(python, "-m", "diag", "demo", "--format", "json", cwd=tmp_path))
    plugged = {check["id"]: check for check in report["checks"]}["approved-version"]
    assert plugged["status"] == "ok"
    assert plugged["findings"][0]["code"] == "approved-version-ok"
    assert run(python, "-m", "diag", "demo", "--format", "oneline", cwd=tmp_path) == (
        "ok https://bitbucket.example.com\n"
    )


def test_a_broken_plugin_is_one_warning(installed: Path, tmp_path: Path) -> None:
    library = next(installed.parent.glob("lib/python*/site-packages"))
    info = library / "broken_plugin-1.dist-info"
    info.mkdir()
    try:
        (info / "METADATA").write_text("Name: broken-plugin\nVersion: 1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            "[diag.checks]\nbroken = no_such_module:Check\n", encoding="utf-8"
        )
        done = subprocess.run(
            [installed / "python", "-m", "diag", "checks"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for path in info.iterdir():
            path.unlink()
        info.rmdir()
    assert done.returncode == 0
    assert "plug-in broken is left out: ModuleNotFoundError" in done.stderr
    assert "base-url" in done.stdout
