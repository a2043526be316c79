"""The units: accepted by systemd's own tools, sandboxed as promised, and alike."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = ("paidwatch.service", "paidwatch@.service")
PROGRAM = "/opt/paidwatch/bin/paidwatch"
EXPOSURE_LIMIT = 15
"""Tenths, as `--threshold` counts."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def directives(name: str) -> dict[str, list[str]]:
    """Return `Section.Key` to its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def seconds(value: str) -> int:
    amount, unit = re.fullmatch(r"(\d+)(s|min)", value).groups()  # type: ignore[union-attr]
    return int(amount) * (60 if unit == "min" else 1)


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_no_fault(name: str, tmp_path: Path) -> None:
    """The program is the one thing that this machine need not have, so another one stands in its place."""
    text = (UNITS / name).read_text()
    assert PROGRAM in text
    (tmp_path / name).write_text(text.replace(PROGRAM, sys.executable))
    result = analyze("verify", "--man=no", str(tmp_path / name))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_would_be_found(name: str, tmp_path: Path) -> None:
    text = (UNITS / name).read_text().replace(PROGRAM, sys.executable)
    (tmp_path / name).write_text(text.replace("ProtectProc=invisible", "ProtectProc=sometimes"))
    assert "sometimes" in analyze("verify", "--man=no", str(tmp_path / name)).stderr


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_the_exposure_is_at_most_one_and_a_half(name: str) -> None:
    result = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(UNITS / name))
    assert result.returncode == 0, result.stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)
    assert level is not None
    assert float(level[1]) <= EXPOSURE_LIMIT / 10


@needs_systemd
def test_a_hole_in_the_sandbox_would_be_found(tmp_path: Path) -> None:
    text = (UNITS / NAMES[0]).read_text()
    (tmp_path / NAMES[0]).write_text(
        re.sub(r"^(?:Capability|SystemCallFilter|Restrict\w+).*$", "", text, flags=re.MULTILINE)
    )
    result = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(tmp_path / NAMES[0]))
    assert result.returncode != 0


def test_the_instances_differ_from_the_plain_unit_in_their_names_only() -> None:
    plain, instance = (UNITS.joinpath(name).read_text() for name in NAMES)
    assert "%i" not in plain
    renamed = (
        instance.replace("paidwatch for %i:", "paidwatch:")
        .replace("/etc/paidwatch/%i.toml", "/etc/paidwatch/paidwatch.toml")
        .replace("/etc/paidwatch/credentials/%i", "/etc/paidwatch/credentials/paidwatch")
    )
    assert renamed == plain


@pytest.mark.parametrize("name", NAMES)
def test_the_life_cycle_is_as_documented(name: str) -> None:
    found = directives(name)
    expected = {
        "Service.Type": "notify",
        "Service.NotifyAccess": "main",
        "Service.ExecReload": "/bin/sh -c 'kill -HUP \"$MAINPID\"'",
        "Service.User": "paidwatch",
        "Service.Restart": "on-failure",
        "Service.RestartPreventExitStatus": "64 78",
        "Service.SystemCallErrorNumber": "EPERM",
        "Unit.StartLimitIntervalSec": "0",
        "Install.WantedBy": "multi-user.target",
    }
    assert {key: found[key] for key in expected} == {key: [value] for key, value in expected.items()}
    [start] = found["Service.ExecStart"]
    assert start.startswith(f"{PROGRAM} run --config /etc/paidwatch/")
    [stop], [watchdog] = found["Service.TimeoutStopSec"], found["Service.WatchdogSec"]
    assert seconds(stop) >= 60, "above the drain and the last writes"
    assert 10 <= seconds(watchdog) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_credentials_directory_is_no_obstacle(name: str) -> None:
    """systemd takes a value set under the same name as permission to go on without the directory."""
    found = directives(name)
    [load], [default] = found["Service.LoadCredential"], found["Service.SetCredential"]
    assert load.partition(":")[0] == default.partition(":")[0] == "paidwatch"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_newer_than_systemd_252_is_used(name: str) -> None:
    newer = {"RestartSteps", "RestartMaxDelaySec", "MemoryKSM", "RootEphemeral", "ImportCredential", "PrivatePIDs"}
    found = directives(name)
    assert not newer & {key.partition(".")[2] for key in found}
    assert found["Service.Type"] != ["notify-reload"]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed here")
def test_the_user_is_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for _ in range(2):
        subprocess.run(
            ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "paidwatch.sysusers")],
            check=True,
            capture_output=True,
            timeout=60,
        )
    [line] = [line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("paidwatch:")]
    assert line.endswith(":/:/usr/sbin/nologin")


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed here")
def test_the_directories_are_created_for_the_right_eyes(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\npaidwatch:x:54321:\n")
    result = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(UNITS / "paidwatch.tmpfiles")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "Operation not permitted" in result.stderr:
        pytest.skip("giving files to another group needs root")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "etc/paidwatch").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "etc/paidwatch").stat().st_gid == 54321
    for below in ("credentials", "credentials/paidwatch"):
        assert (tmp_path / "etc/paidwatch" / below).stat().st_mode & 0o777 == 0o700
