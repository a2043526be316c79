"""The rules of the house that a program can read off the tree."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "daemon" / "paidwatch"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "sql" not in path.relative_to(PACKAGE).parts)
LONGEST = 350


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """Return every file that is, or would be, committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for part in listed.split("\0") if part and (path := ROOT / part).is_file() and not path.is_symlink()]


def texts() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for path in tracked():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a picture
    return found


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_can_be_read_in_one_sitting(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", [path for path in MODULES if path.parent.name == "core"], ids=name)
def test_the_core_needs_only_the_standard_library_and_no_outside(module: Path) -> None:
    outside = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}
    for imported in imports(module):
        top = imported.partition(".")[0]
        known = top in sys.stdlib_module_names - outside or imported.startswith("paidwatch.core")
        assert known, f"imports {imported}"


def imports(module: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_only_anyio_starts_tasks(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    for way in ("asyncio.create_task", "asyncio.ensure_future", "asyncio.gather", "loop.create_task"):
        assert way not in source


STATEMENT = re.compile(
    r"\b(?:SELECT\s[^.]*\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|CREATE\s+TABLE\s)"
)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_statements_stand_in_sql_files(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            assert not STATEMENT.search(node.value), f"line {node.lineno} speaks SQL"


def test_imports_keep_their_direction() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run((program, "--no-logo"), cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


SPELT_APART = (
    "TO|DO",
    "FIX|ME",
    "X|XX",
    "HA|CK",
    "/wo|rk/",
    "/tmp/|pw",
    "/ro|ot/",
    "py|pi.org",
    "python|hosted",
    "registry.np|mjs",
    "deb.deb|ian.org",
    "Clau|de",
    "Anth|ropic",
    "Chat|GPT",
)
"""Words that never stand in the project; the bar keeps this list from being one of the places."""

BANNED = re.compile(
    "|".join(
        rf"\b{word}\b" if word.isalpha() else re.escape(word)
        for word in map(str, "\0".join(SPELT_APART).replace("|", "").split("\0"))
    )
)


def test_no_banned_word_stands_anywhere() -> None:
    found = [f"{name(path)}: {hit[0]}" for path, text in texts() for hit in BANNED.finditer(text)]
    assert found == []


REAL_ADDRESS = re.compile(
    r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/(?!(.)\1+\b)[A-Za-z0-9]{24}\b"
    r"|discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d{17,20}/[\w-]{60,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b[sr]k_live_\w{16,}"
)


def test_no_credential_stands_anywhere() -> None:
    assert [name(path) for path, text in texts() if REAL_ADDRESS.search(text)] == []


def test_the_patterns_above_can_find_something() -> None:
    assert BANNED.search("# " + "TO" + "DO: later")
    assert REAL_ADDRESS.search("https://hooks.slack.com/services/" + "T0ABCDEF12/B0ABCDEF12/" + "aB3" * 8)
    assert STATEMENT.search("SELECT a FROM b ")


def test_requirements_carry_hashes_and_no_address() -> None:
    lists = sorted((ROOT / "requirements").glob("*.txt"))
    assert [path.name for path in lists] == ["demo.txt", "dev.txt"]
    for path in lists:
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"^\s*--?(?:index|extra-index|find-links|trusted|f\b|i\b)", text, re.MULTILINE)
        pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert pins
        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)


def test_no_lock_file_with_addresses() -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pylock.toml"}
    assert [name(path) for path in tracked() if path.name in locks] == []


def test_the_demo_installs_the_versions_that_are_tested() -> None:
    def pins(list_name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / list_name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

    tested = pins("dev.txt")
    assert pins("demo.txt").items() <= tested.items(), json.dumps(tested)
