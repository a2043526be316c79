"""What is built is what works: the wheel brings the SQL files, and nothing that only developers need."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from that, as an installer does."""
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-d", str(out))
    subprocess.run((*build, "-t", "sdist"), cwd=ROOT, check=True, capture_output=True)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    (source,) = (path for path in out.iterdir() if path.is_dir())
    subprocess.run((*build, "-t", "wheel"), cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_every_sql_file_is_in_the_wheel(wheel: Path) -> None:
    wanted = {f"paidwatch/sql/{path.relative_to(ROOT / 'sql')}" for path in (ROOT / "sql").rglob("*.sql")}
    assert wanted
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_only_the_package_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"paidwatch"}
    assert "paidwatch/py.typed" in names
    assert not [name for name in names if "tests/" in name or name.endswith(".pyc")]


def test_an_installed_wheel_finds_its_files(wheel: Path, tmp_path: Path) -> None:
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path))
    subprocess.run((*install, str(wheel)), check=True, capture_output=True)
    program = (
        "from paidwatch.ops import shop; assert 'payment_transactions' in shop.shop_sql();"
        " assert 'payment-status' in shop.success_html(); print(shop.__file__)"
    )
    # -P and an own path: neither the checkout nor the working directory is looked into.
    done = subprocess.run(
        (sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"),
        cwd=tmp_path,
        env={"PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path))
