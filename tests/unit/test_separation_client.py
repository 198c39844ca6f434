"""The daemon's side of root's helper, with a real driver or real images at the other end."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from driver_checks import SLEEP
from driver_rig import DEADLINE_S, Rig, open_rig, wait_until
from helper_rig import HelperRig, open_helper_rig
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, RefusedError, TooManyError
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.image_manifest import Change, ChangeKind
from hyperhive.host.drivers.protocol import BuildsSystems, ContainerState, DriverError, Package, SizeDifference
from hyperhive.host.drivers.registry import find_images, find_revision
from hyperhive.host.separation.client import Helper, HelperBuilder, HelperDriver, HelperImages
from hyperhive.host.separation.frames import FRAME_LIMIT_BYTES
from hyperhive.host.separation.server import COMPARISONS_AT_ONCE, EVALUATIONS_AT_ONCE, TASKS_LIMIT
from hyperhive.host.separation.verbs import PIECE_LIMIT_BYTES, Arguments, Verb, render_spec
from hyperhive.testing.bad_drivers import NeverStarts, Slow
from image_shelf import Shelf

STORE_PATH = "/nix/store/00000000000000000000000000000000-hello-1.0"
# A log of more than one piece.
LOG_BYTES = 3_000_000


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[tuple[Rig, HelperRig]]:
    """Containers that a helper has, and the helper."""
    async with open_rig(tmp_path) as rig, open_helper_rig(tmp_path, rig.another) as helper_rig:
        rig.driver = HelperDriver("bubblewrap", helper_rig.open_helper(), None)
        yield rig, helper_rig


async def start_command(rig: Rig) -> tuple[asyncio.Task[object], str]:
    """A command that does not end by itself runs in a container; returns who waits for it, and its mark."""
    mark = f"1000.{secrets.randbelow(10**12)}"
    await rig.run(SLEEP)
    waiting = asyncio.create_task(rig.driver.exec("alice", ("sleep", mark), 600))
    await wait_until(lambda: runs(mark), "the command runs")
    return waiting, mark


async def runs(mark: str) -> bool:
    # It is the argument of a program there; those around it have more to say.
    return any(command.startswith(b"sleep\0") and mark.encode() in command for command in list_commands())


def list_commands() -> list[bytes]:
    found: list[bytes] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


async def is_over(mark: str) -> bool:
    return not await runs(mark)


# -- giving up -------------------------------------------------------------------------------------------------


async def test_what_is_cancelled_here_ends_there(rigs: tuple[Rig, HelperRig]) -> None:
    rig, helper_rig = rigs
    waiting, mark = await start_command(rig)
    waiting.cancel()
    assert (await asyncio.wait({waiting}, timeout=DEADLINE_S))[0]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await wait_until(lambda: is_over(mark), "the command is ended")
    line = helper_rig.notes()[-1]
    assert (line["verb"], line["outcome"], line["message"]) == ("exec", "failed", f"sleep {mark}: given up")
    assert await rig.ask("echo", "well") == "well\n"


async def test_what_is_cancelled_before_it_began_leaves_the_rest_alone(rigs: tuple[Rig, HelperRig]) -> None:
    rig, _ = rigs
    await rig.driver.prepare()
    for rounds in range(4):
        calls = [asyncio.create_task(rig.driver.observe("alice")) for _ in range(50)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        assert len((await asyncio.wait(calls, timeout=DEADLINE_S))[0]) == len(calls)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
        assert all(not isinstance(outcome, BaseException) for outcome in outcomes[1::2])


async def test_who_is_cancelled_twice_does_not_wait() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        helper = Helper(ours)
        call = asyncio.create_task(helper.call(Verb.OBSERVE, {"name": "alice"}))
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        assert b'"observe"' in await loop.sock_recv(theirs, 1000)
        call.cancel()
        assert (await loop.sock_recv(theirs, 1000))[4:] == b'{"cancel":1}'
        assert not call.done()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await helper.close()


# -- being left ------------------------------------------------------------------------------------------------


async def test_a_helper_that_goes_leaves_nobody_waiting_and_nothing_behind(rigs: tuple[Rig, HelperRig]) -> None:
    rig, helper_rig = rigs
    lost: list[str] = []
    helper_rig.opened[0].on_lost(lambda: lost.append("lost"))
    waiting, mark = await start_command(rig)
    others = [asyncio.create_task(rig.driver.exec("alice", ("sleep", mark), 600)) for _ in range(3)]
    helper_rig.serving.cancel()
    for call in (waiting, *others):
        with pytest.raises(DriverError, match="the root helper is gone") as caught:
            await call
        assert "systemctl restart hyperhive" in caught.value.hint
    for _ in range(2):
        with pytest.raises(DriverError, match="the root helper is gone"):
            await rig.driver.observe("alice")
    assert lost == ["lost"]
    await wait_until(lambda: is_over(mark), "the commands are ended")
    # What it has started for containers lives on.
    assert (await rig.another.observe("alice")).state is ContainerState.RUNNING


async def test_a_daemon_that_goes_ends_what_it_asked_for(rigs: tuple[Rig, HelperRig]) -> None:
    rig, helper_rig = rigs
    waiting, mark = await start_command(rig)
    helper_rig.connection.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(DEADLINE_S):
        await helper_rig.serving
    with pytest.raises(DriverError):
        await waiting
    # It was killed with its group: of whom the kernel has only the first waited for.
    await wait_until(lambda: is_over(mark), "the command is ended")
    assert (await rig.another.observe("alice")).state is ContainerState.RUNNING


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x02[]", b"\xff\xff\xff\xff"])
async def test_a_helper_that_is_none_is_lost_once(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    helper = Helper(ours)
    lost: list[str] = []
    helper.on_lost(lambda: lost.append("lost"))
    with theirs:
        call = asyncio.create_task(helper.call(Verb.OBSERVE, {"name": "alice"}))
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_recv(theirs, 1000)
        theirs.sendall(said)
    with pytest.raises(DriverError, match="the root helper is gone"):
        await call
    with pytest.raises(DriverError, match="the root helper is gone"):
        await helper.call(Verb.PREPARE, {})
    await helper.close()
    assert lost == ["lost"]


@pytest.mark.parametrize("is_open", [True, False])
async def test_who_leaves_the_helper_has_not_lost_it(is_open: bool, tmp_path: Path) -> None:
    lost: list[str] = []
    async with open_helper_rig(tmp_path, BubblewrapDriver(tmp_path / "containers")) as rig:
        helper = rig.open_helper()
        helper.on_lost(lambda: lost.append("lost"))
        if is_open:
            await helper.call(Verb.LOG_RANGE, {"name": "alice"})
        await helper.close()
        await rig.serving
        with pytest.raises(DriverError):
            await helper.call(Verb.LOG_RANGE, {"name": "alice"})
    assert lost == []


# -- what is said ----------------------------------------------------------------------------------------------


async def test_a_log_of_any_bytes_comes_in_pieces(rigs: tuple[Rig, HelperRig]) -> None:
    rig, _ = rigs
    await rig.run(f"head -c {LOG_BYTES} /dev/urandom >/state/copy; cat /state/copy")
    await rig.wait_state(ContainerState.EXITED)
    read = bytearray()
    sizes: list[int] = []
    while len(read) < LOG_BYTES:
        piece, end = await rig.driver.logs("alice", len(read), 1024 * 1024)
        read += piece
        sizes.append(len(piece))
        assert end == len(read)
    assert bytes(read) == (rig.state() / "copy").read_bytes()
    assert sizes == [1024 * 1024, 1024 * 1024, LOG_BYTES - 2 * 1024 * 1024]
    # More than fits into an answer may be asked for.
    piece, _ = await rig.driver.logs("alice", 0, 2**40)
    assert piece == read[: len(piece)] and len(piece) >= 1024 * 1024


async def test_what_a_command_says_may_be_long_and_any_bytes(rigs: tuple[Rig, HelperRig]) -> None:
    rig, _ = rigs
    await rig.run(SLEEP)
    script = "head -c 4000000 /dev/zero; head -c 4000000 /dev/zero | tr '\\0' '\\377' >&2; exit 3"
    done = await rig.driver.exec("alice", ("sh", "-c", script), DEADLINE_S)
    assert done.argv == ("sh", "-c", script)
    assert (done.status, done.stdout, done.stderr) == (3, bytes(PIECE_LIMIT_BYTES), b"\xff" * PIECE_LIMIT_BYTES)


async def test_what_cannot_be_said_is_not_asked(rigs: tuple[Rig, HelperRig]) -> None:
    rig, helper_rig = rigs
    spec = rig.spec("true")
    for value in ("\ud800", "x" * FRAME_LIMIT_BYTES):
        with pytest.raises(DriverError, match="the helper cannot be asked"):
            await rig.driver.create(replace(spec, environment={"A": value}))
    await rig.driver.create(spec)
    assert [line["verb"] for line in helper_rig.notes()] == ["create"]


@pytest.mark.parametrize("kind", [DriverError, NotFoundError, ConflictError, RefusedError, InvalidInputError])
async def test_errors_are_again_what_they_were(kind: type[HiveError], tmp_path: Path) -> None:
    # The message has what a path may have that is no UTF-8.
    failing = NeverStarts(BubblewrapDriver(tmp_path / "containers"), error=kind("it is \udcffso", "do it"))
    async with open_rig(tmp_path) as rig, open_helper_rig(tmp_path, failing) as helper_rig:
        helper, spec = helper_rig.open_helper(), rig.spec("true")
        with pytest.raises(kind) as caught:
            await helper.call(Verb.START, render_spec(spec))
        assert (type(caught.value), caught.value.message, caught.value.hint) == (kind, "it is ?so", "do it")
        # Of a driver nobody expects any but its own.
        with pytest.raises(DriverError) as told:
            await HelperDriver("bubblewrap", helper, None).start(spec)
        assert (told.value.message, told.value.hint) == ("it is ?so", "do it")
        assert [line["outcome"] for line in helper_rig.notes()] == ["failed"] * 2


async def test_a_mistake_of_ours_ends_only_what_it_was_made_in(tmp_path: Path) -> None:
    failing = NeverStarts(BubblewrapDriver(tmp_path / "containers"), error=ZeroDivisionError("of ours"))
    async with open_rig(tmp_path) as rig, open_helper_rig(tmp_path, failing) as helper_rig:
        driver = HelperDriver("bubblewrap", helper_rig.open_helper(), None)
        with pytest.raises(DriverError, match="the root helper failed"):
            await driver.start(rig.spec("true"))
        assert (await driver.observe("alice")).state is ContainerState.ABSENT
        assert [line["message"] for line in helper_rig.notes()][:1] == [f"uid {rig.uids['alice']}: ZeroDivisionError"]


class Mistaken:
    """Checks that fail at what they should judge."""

    def check(self, arguments: Arguments) -> None:
        raise ZeroDivisionError(f"of ours, with {arguments}")


async def test_what_cannot_be_checked_is_not_done(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig, open_helper_rig(tmp_path, rig.another, checks=Mistaken()) as helper_rig:
        driver = HelperDriver("bubblewrap", helper_rig.open_helper(), None)
        with pytest.raises(DriverError, match="the root helper failed"):
            await driver.create(rig.spec("true"))
        assert (await rig.another.observe("alice")).state is ContainerState.ABSENT
        [line] = helper_rig.notes()
        assert (line["verb"], line["name"], line["outcome"], line["message"]) == (
            "create",
            "alice",
            "failed",
            "ZeroDivisionError",
        )


async def test_there_is_an_end_to_how_much_is_done_at_once(tmp_path: Path) -> None:
    slow = Slow(BubblewrapDriver(tmp_path / "containers"), delay_s=600)
    async with open_helper_rig(tmp_path, slow) as rig:
        helper = rig.open_helper()

        def ask() -> asyncio.Task[object]:
            return asyncio.create_task(helper.call(Verb.OBSERVE, {"name": "alice"}))

        # They are asked for in this order.
        *calls, one_more = [ask() for _ in range(TASKS_LIMIT + 1)]
        with pytest.raises(TooManyError):
            await one_more
        calls[0].cancel()
        assert (await asyncio.wait({calls[0]}, timeout=DEADLINE_S))[0]
        calls.append(ask())
        with pytest.raises(TooManyError):
            await ask()
        assert not any(call.done() for call in calls[1:])
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert [line["message"] for line in rig.notes() if line["outcome"] == "refused"] == [
            f"the helper does {TASKS_LIMIT} things at once already"
        ] * 2


# -- systems ---------------------------------------------------------------------------------------------------


class Builder(BubblewrapDriver):
    """A driver that builds systems, too: it says what it was given, or fails with `error`."""

    revision = "0123abcd"
    error: HiveError | None = None

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        if self.error is not None:
            raise self.error
        return repr((name, dict(files))).encode()

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        await self.evaluate(name, files)

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        return [Package("hello ä", (await self.evaluate(name, files)).decode(), STORE_PATH)]

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        if self.error is not None:
            raise self.error
        return SizeDifference(2**50, 1, len(before), len(after), tuple(after))


async def test_systems_are_built_by_the_helper_and_known_by_their_revision(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "containers")
    async with open_helper_rig(tmp_path, builder) as rig:
        driver = HelperBuilder("nixos", rig.open_helper(), None)
        assert isinstance(driver, BuildsSystems) and find_revision(driver) == ""
        await driver.prepare()
        assert find_revision(driver) == "0123abcd"
        files = {"agent.nix": b"{ }", "notes/ä": bytes(range(256))}
        assert await driver.evaluate("alice", files) == repr(("alice", files)).encode()
        await driver.build_system("alice", files)
        assert await driver.list_packages("alice", files) == await builder.list_packages("alice", files)
        assert await driver.compare_packages([STORE_PATH], ()) == SizeDifference(2**50, 1, 1, 0, ())
        assert await driver.compare_packages((), [STORE_PATH]) == SizeDifference(2**50, 1, 0, 1, (STORE_PATH,))
        lines = [(line["verb"], line["name"], line["message"]) for line in rig.notes()[1:]]
        assert lines == [
            ("evaluate", "alice", "2 files"),
            ("build_system", "alice", "2 files"),
            ("list_packages", "alice", "2 files"),
            ("compare_packages", "", "1 packages with 0"),
            ("compare_packages", "", "0 packages with 1"),
        ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidInputError("agent.nix line 3: attribute 'x' missing", "mend it"), InvalidInputError),
        (DriverError("nix is gone", "install it"), DriverError),
        (NotFoundError("it is not there", "make it"), DriverError),
    ],
)
async def test_what_is_the_configs_fault_is_told_from_what_is_the_machines(
    error: HiveError, kind: type[HiveError], tmp_path: Path
) -> None:
    builder = Builder(tmp_path / "containers")
    builder.error = error
    async with open_helper_rig(tmp_path, builder) as rig:
        driver = HelperBuilder("nixos", rig.open_helper(), None)
        files = {"agent.nix": b"{ x }"}
        for act in (
            driver.evaluate("alice", files),
            driver.build_system("alice", files),
            driver.list_packages("alice", files),
            driver.compare_packages([], [STORE_PATH]),
        ):
            with pytest.raises(HiveError) as caught:
                await act
            assert (type(caught.value), caught.value.message, caught.value.hint) == (kind, error.message, error.hint)


class SlowBuilder(Builder):
    """Its evaluations take until `is_over` is set, and so do its comparisons; `begun` are what it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_over = asyncio.Event()
        self.begun = 0

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        self.begun += 1
        await self.is_over.wait()
        return b"{}"

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        await self.evaluate("", {})
        return SizeDifference(0, 0, 0, 0, ())


async def test_only_so_many_configs_are_evaluated_at_once(tmp_path: Path) -> None:
    builder = SlowBuilder(tmp_path / "containers")
    async with open_helper_rig(tmp_path, builder) as rig:
        driver = HelperBuilder("nixos", rig.open_helper(), None)
        asked = [asyncio.create_task(driver.evaluate("alice", {})) for _ in range(3 * EVALUATIONS_AT_ONCE)]
        # They are asked for in this order: what comes after them is done after them.
        await driver.observe("alice")
        await driver.observe("alice")
        assert builder.begun == EVALUATIONS_AT_ONCE
        asked[0].cancel()
        assert (await asyncio.wait({asked[0]}, timeout=DEADLINE_S))[0]
        await driver.observe("alice")
        assert builder.begun == EVALUATIONS_AT_ONCE + 1
        builder.is_over.set()
        assert await asyncio.gather(*asked[1:]) == [b"{}"] * (len(asked) - 1)


async def test_only_so_many_comparisons_wait_for_the_network_and_no_evaluation_waits_for_them(tmp_path: Path) -> None:
    builder = SlowBuilder(tmp_path / "containers")
    async with open_helper_rig(tmp_path, builder) as rig:
        driver = HelperBuilder("nixos", rig.open_helper(), None)
        asked = [asyncio.create_task(driver.compare_packages([], [])) for _ in range(3 * COMPARISONS_AT_ONCE)]
        await driver.observe("alice")
        await driver.observe("alice")
        assert builder.begun == COMPARISONS_AT_ONCE
        listed = [asyncio.create_task(driver.list_packages("alice", {})) for _ in range(3 * EVALUATIONS_AT_ONCE)]
        await driver.observe("alice")
        await driver.observe("alice")
        assert builder.begun == COMPARISONS_AT_ONCE + EVALUATIONS_AT_ONCE
        builder.is_over.set()
        assert len(set(await asyncio.gather(*asked))) == 1
        assert all(await asyncio.gather(*listed))


async def test_a_driver_that_builds_no_systems_builds_none_behind_the_helper_either(tmp_path: Path) -> None:
    async with open_helper_rig(tmp_path, BubblewrapDriver(tmp_path / "containers")) as rig:
        helper = rig.open_helper()
        driver = HelperDriver("bubblewrap", helper, None)
        assert not isinstance(driver, BuildsSystems)
        await driver.prepare()
        assert find_revision(driver) == ""
        with pytest.raises(DriverError, match="no systems to build"):
            await HelperBuilder("bubblewrap", helper, None).evaluate("alice", {})


# -- images ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
async def images(shelf: Shelf, tmp_path: Path) -> AsyncIterator[HelperImages]:
    driver = BubblewrapDriver(tmp_path / "containers")
    async with open_helper_rig(tmp_path, driver, shelf.images) as rig:
        yield HelperImages(rig.open_helper())


async def test_images_are_seen_through_the_helper_as_they_are(shelf: Shelf, images: HelperImages) -> None:
    wanted = [("sl",), (), ("git", "hello")]
    empty = await images.observe(wanted)
    assert empty == await shelf.images.observe(wanted) and empty.manifests == ()
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    assert await images.compare(base.id) is None
    seen = await images.observe(wanted)
    assert seen == await shelf.images.observe(wanted)
    assert (seen.manifests, seen.checked, seen.ids["sl",]) == ((base, layer), {base.id}, (layer.id, base.id))
    assert seen.manifests[0].digest == base.digest
    (shelf.folder / base.id / "manifest.json").write_text("{")
    seen = await images.observe(wanted)
    assert seen == await shelf.images.observe(wanted)
    assert (seen.ids, seen.damaged, bool(seen.problem), bool(seen.hint)) == ({}, (base.id,), True, True)


async def test_images_are_compared_and_removed_through_the_helper(shelf: Shelf, images: HelperImages) -> None:
    base = shelf.put_base()
    layer, unused = shelf.put_layer(base, "sl"), shelf.put_layer(base, "hello")
    (shelf.folder / layer.id / "root/etc/name").write_text("other")
    assert await images.compare(layer.id) == [Change("etc/name", ChangeKind.CHANGED)]
    assert await images.remove_unused([("sl",)], unused_s=3600) == []
    assert await images.remove_unused(iter([("sl",)])) == [unused.id]
    await images.remove(layer.id)
    assert shelf.names() == {base.id}
    for act in (images.compare, images.remove):
        for name in (layer.id, "", "..", f"../images/{base.id}", f"{base.id}/root"):
            with pytest.raises(NotFoundError):
                await act(name)


async def test_nothing_is_built_while_it_is_decided_which_images_go(tmp_path: Path, images: HelperImages) -> None:
    folder = tmp_path / "helper"
    folder.mkdir()
    async with open_rig(tmp_path) as rig, open_helper_rig(folder, rig.another) as helper_rig:
        driver = HelperDriver("nspawn", helper_rig.open_helper(), images)
        assert find_images(driver) is images
        async with images.removing:
            building = asyncio.create_task(driver.build([]))
            # What does not wait for that is long done by then.
            await driver.observe("alice")
            await driver.observe("alice")
            assert not building.done()
            assert [line["verb"] for line in helper_rig.notes()] == ["observe"]
        assert await building == {}
        assert helper_rig.notes()[-1]["verb"] == "build"
