"""What an evaluation says of packages, and what nix says of store paths: read as what they are, or refused."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.nix_packages import (
    PACKAGES_LIMIT,
    Fetch,
    check_store_paths,
    is_store_path,
    parse_fetch,
    parse_packages,
    parse_paths,
    parse_sizes,
)
from hyperhive.host.drivers.protocol import Package

HASH = "wk8sh400i85f3mz8dyndx9h69979q8xf"
HELLO = f"/nix/store/{HASH}-hello-1.0"
NONE = "/nix/store/00000000000000000000000000000000-none"
LIB = "/nix/store/wv0q9zrcd3x903g7dfpm6ypzr2k7xq6d-libfoo-1"

# -- what an evaluation says -----------------------------------------------------------------------------------


def told(**changes: Any) -> dict[str, Any]:
    return {"name": "hello", "version": "1.0", "path": HELLO} | changes


def parse(*packages: object) -> list[Package]:
    return parse_packages(json.dumps(packages).encode())


def refused(content: bytes) -> str:
    with pytest.raises(InvalidInputError) as caught:
        parse_packages(content)
    message = caught.value.message
    assert message.startswith("agent.nix: ") and message.isprintable() and len(message) < 600
    assert caught.value.hint
    return message


def test_packages_are_by_name_and_each_once() -> None:
    lib = told(name="Äöü", version="", path=LIB)
    found = parse(told(version="2"), lib, told(), told(), told(path=NONE))
    assert found == [
        Package("hello", "1.0", NONE),
        Package("hello", "1.0", HELLO),
        Package("hello", "2", HELLO),
        Package("Äöü", "", LIB),
    ]
    assert parse() == []


GOOD_PATHS = (HELLO, NONE, LIB, f"/nix/store/{HASH}-" + "x" * 211, f"/nix/store/{HASH}-a+b-._?=Z9", f"{HELLO}.drv.lock")
BAD_PATHS = (
    *(
        "",
        "/",
        "/etc/passwd",
        "/nix/store",
        "/nix/store/",
        HELLO[1:],
        f"/{HELLO}",
        f"{HELLO}/bin",
        f"{HELLO}/",
        "--help",
    ),
    *(
        f"{HELLO}\n",
        f" {HELLO}",
        f"{HELLO} ",
        f"{HELLO}\0",
        f"{HELLO}.drv",
        f"{HELLO}!out",
        f"{HELLO}^out",
        f"{HELLO}#x",
    ),
    *(f"/nix/store/{HASH}", f"/nix/store/{HASH}-", f"/nix/store/{HASH}-.x", f"/nix/store/{HASH[1:]}-x", f"{HELLO}ä"),
    *(f"/nix/store/e{HASH[1:]}-x", f"/nix/store/{HASH.upper()}-x", f"/nix/store/{HASH}-" + "x" * 212, "-o/x"),
    *("/nix/store/../etc", f"/nix/store/{HASH}-../../etc", f"/home/nix/store/{HASH}-x", "https://example.org/x"),
)


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_a_place_in_the_store_is_one(path: str) -> None:
    assert is_store_path(path)
    assert check_store_paths([path, path]) == [path]
    assert parse(told(path=path)) == [Package("hello", "1.0", path)]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_what_is_no_place_in_the_store_is_refused(path: str) -> None:
    assert not is_store_path(path)
    with pytest.raises(InvalidInputError):
        check_store_paths([HELLO, path])
    assert "'hello'" in refused(json.dumps([told(), told(path=path)]).encode())


ODD: tuple[object, ...] = (
    *(told(name=""), told(name=7), told(name=None), told(name="x" * 212), told(name=["x"]), told(version=1.0)),
    *(told(version=None), told(version="x" * 212), told(path=None), told(path={}), told(more=""), [], "x", None, 7),
    *({"name": "hello", "version": "1"}, {}),
)


@pytest.mark.parametrize("package", ODD)
def test_what_is_no_package_is_refused(package: object) -> None:
    refused(json.dumps([told(), package]).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"null", b'"x"', b"[" * 100_000, b'[{"name": "\\ud800"', b"[\xff]", b"[NaN]", b"[] []"],
)
def test_what_is_no_list_of_packages_is_refused(content: bytes) -> None:
    refused(content)


def test_a_lone_surrogate_is_no_text() -> None:
    refused(json.dumps([told(name="\ud800")]).encode())


def test_a_name_that_a_terminal_would_obey_is_told_as_what_it_is() -> None:
    assert r"'\x1b[31m\u202e'" in refused(json.dumps([told(name="\x1b[31m\u202e", path="x")]).encode())


def test_there_are_only_so_many_packages() -> None:
    paths = [f"/nix/store/{number:032}-x" for number in range(PACKAGES_LIMIT + 1)]
    assert len(parse(*(told(path=path) for path in paths[1:]))) == PACKAGES_LIMIT
    assert check_store_paths(paths[1:]) == paths[1:]
    assert "2,048 packages" in refused(json.dumps([told(path=path) for path in paths]).encode())
    with pytest.raises(InvalidInputError, match="2,048 packages"):
        check_store_paths(paths)


# -- what nix says ---------------------------------------------------------------------------------------------


def test_paths_are_read_from_lines() -> None:
    assert parse_paths(f"{HELLO}\n{NONE}\n") == {HELLO, NONE}
    assert parse_paths("") == set()
    for text in ("error\n", f"{HELLO}\n\n{NONE}\n", f" {HELLO}\n"):
        with pytest.raises(ValueError, match="no store path"):
            parse_paths(text)


def test_sizes_are_read_from_columns() -> None:
    # As nix 2.8 and 2.26 print it: the paths filled up to the longest.
    text = f"{LIB}\t    3200120\n{HELLO} \t    3200168\n"
    assert parse_sizes(text) == {LIB: 3200120, HELLO: 3200168}
    assert parse_sizes("") == {}
    for line in (HELLO, f"{HELLO}\t", f"{HELLO}\t3 KiB", "x\t3", f"{HELLO}\t-3", f"{HELLO}\t3\t4", f"{HELLO}\t1.5"):
        with pytest.raises(ValueError, match="its size"):
            parse_sizes(f"{text}{line}\n")


MIB = 1024**2
ONE = f"this path will be fetched (0.19 MiB download, 3.05 MiB unpacked):\n  {HELLO}\n"
UNKNOWN = f"don't know how to build these paths:\n  {NONE}\n"
AGAIN = "warning: error: unable to download 'https://x/y.narinfo': it will be fetched (later); retrying in 255 ms\n"
AWAY = "unable to download 'https://x/nix-cache-info': Couldn't resolve host name (6)"
IT = Fetch(frozenset({HELLO}), round(0.19 * MIB), round(3.05 * MIB))
FETCHES = {
    "nothing": ("", Fetch()),
    # nix 2.8 and 2.26
    "one": (ONE, IT),
    "two": (
        f"these 2 paths will be fetched (1234.00 MiB download, 20000.50 MiB unpacked):\n  {HELLO}\n  {LIB}\n",
        Fetch(frozenset({HELLO, LIB}), 1234 * MIB, round(20000.5 * MIB)),
    ),
    "unknown": (UNKNOWN, Fetch(unknown=frozenset({NONE}))),
    "both": (ONE + UNKNOWN, replace(IT, unknown=frozenset({NONE}))),
    # Newer ones choose the unit.
    "other units": (
        f"this path will be fetched (   1.5 KiB download,    2.0 GiB unpacked):\n  {HELLO}\n",
        Fetch(frozenset({HELLO}), 1536, 2 * 1024**3),
    ),
    "bytes": (
        f"this path will be fetched (0 B download, 120 B unpacked):\n  {HELLO}\n",
        Fetch(frozenset({HELLO}), 0, 120),
    ),
    "what is to be built": (f"these 2 derivations will be built:\n  {NONE}.drv\n  {LIB}.drv\n", Fetch()),
    "a cache that answers at last": (AGAIN + AGAIN + ONE, IT),
    "a cache that is away": (f"{AGAIN}warning: {AWAY}\n{ONE}", replace(IT, away=AWAY)),
    "a cache that has failed": (
        f"error (ignored): error: {AWAY}\n{UNKNOWN}",
        Fetch(unknown=frozenset({NONE}), away=AWAY),
    ),
    "something between": (f"{ONE}warning: x\n  {LIB}\n", IT),
}


@pytest.mark.parametrize(("text", "fetch"), FETCHES.values(), ids=FETCHES.keys())
def test_what_would_be_fetched_is_read(text: str, fetch: Fetch) -> None:
    assert parse_fetch(text) == fetch


@pytest.mark.parametrize(
    "sizes",
    [
        "download 1 MiB, unpacked 2 MiB",
        "1 MiB download",
        "1 MiB download, 2 MB unpacked",
        "-1 MiB download, 2 MiB unpacked",
        "1e3 MiB download, 2 MiB unpacked",
        "nan MiB download, 2 MiB unpacked",
        "1 MiB download, 9999999999999999999 MiB unpacked",
    ],
)
def test_sizes_that_cannot_be_read_are_none(sizes: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_fetch(f"these 2 paths will be fetched ({sizes}):\n  {HELLO}\n")
