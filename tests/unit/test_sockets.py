"""Unix sockets at paths of any length."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from hyperhive.system.sockets import PATH_LIMIT_BYTES, bind_unix, connect_unix, peer_pid


def make_folder(tmp_path: Path, length_bytes: int) -> Path:
    """A folder whose path has at least `length_bytes`."""
    folder = tmp_path
    while len(bytes(folder)) < length_bytes:
        folder /= "d" * 50
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("length_bytes", [1, PATH_LIMIT_BYTES, 3 * PATH_LIMIT_BYTES])
async def test_a_socket_is_reached_whatever_the_length_of_its_path(tmp_path: Path, length_bytes: int) -> None:
    path = make_folder(tmp_path, length_bytes) / "hive.sock"
    listener = bind_unix(path)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(echo, sock=listener):
        reader, writer = await asyncio.open_unix_connection(sock=connect_unix(path, timeout_s=5))
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()


def test_paths_around_the_limit_all_work(tmp_path: Path) -> None:
    tmp_path = make_folder(tmp_path, 60)
    for length in range(PATH_LIMIT_BYTES - 2, PATH_LIMIT_BYTES + 3):
        path = tmp_path / ("s" * (length - len(bytes(tmp_path)) - 1))
        assert len(bytes(path)) == length
        with bind_unix(path), connect_unix(path):
            assert path.is_socket()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "hive.sock"
    with bind_unix(path, mode=mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_binding_replaces_a_socket_left_there(tmp_path: Path) -> None:
    path = tmp_path / "hive.sock"
    bind_unix(path).close()
    assert path.is_socket()
    with bind_unix(path), connect_unix(path):
        pass


@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
def test_binding_refuses_to_replace_anything_else(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "hive.sock", tmp_path / "target"
    target.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
    with pytest.raises(FileExistsError):
        bind_unix(path)
    assert target.read_text() == "precious"
    assert path.exists()


def test_connecting_to_nobody_tells_which_kind_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect_unix(tmp_path / "none.sock")
    bind_unix(tmp_path / "left.sock").close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(tmp_path / "left.sock")


def test_a_name_too_long_for_any_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        connect_unix(tmp_path / ("s" * 120))
    with pytest.raises(OSError, match="too long"):
        bind_unix(tmp_path / ("s" * 120))


def test_no_file_descriptor_is_left_open(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 200)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with bind_unix(folder / "hive.sock"), connect_unix(folder / "hive.sock"):
            pass
        with pytest.raises(FileNotFoundError):
            connect_unix(folder / "none.sock")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_listening_process_is_known(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "hive.sock"), connect_unix(tmp_path / "hive.sock") as connection:
        assert peer_pid(connection) == os.getpid()
