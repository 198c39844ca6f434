"""Which packages of a system become others: a row for each name under which something else is, none for the rest."""

from hypothesis import given
from hypothesis import strategies as st

from hyperhive.host.drivers.protocol import Package
from hyperhive.host.system_changes import NAME_LIMIT_CHARS, VERSIONS_LIMIT_CHARS, plan_changes


def package(name: str, version: str = "1.0", build: str = "a") -> Package:
    return Package(name, version, f"/nix/store/{build * 32}-{name}-{version}")


def tell(before: list[Package], after: list[Package]) -> list[tuple[str, str, str, str]]:
    return [(row.change, row.name, row.before, row.after) for row in plan_changes(before, after)]


def test_what_comes_goes_and_becomes_another_version_has_a_row_by_name() -> None:
    before = [package("zsh"), package("git", "2.42"), package("jq", "1.7"), package("vim")]
    after = [package("vim"), package("git", "2.43"), package("ripgrep", "14"), package("zsh")]
    assert tell(before, after) == [
        ("changed", "git", "2.42", "2.43"),
        ("removed", "jq", "1.7", ""),
        ("added", "ripgrep", "", "14"),
    ]


def test_the_same_version_built_otherwise_is_another_one() -> None:
    assert tell([package("git")], [package("git", build="b")]) == [("changed", "git", "1.0", "1.0 (another build)")]
    both = [package("git"), package("git", build="b")]
    assert tell([package("git")], both) == [("changed", "git", "1.0", "1.0 (another build)")]
    assert tell(both, list(reversed(both))) == []


def test_several_versions_stand_side_by_side() -> None:
    before = [package("node", "18"), package("node", "20")]
    after = [package("node", "20"), package("node", "22"), package("node", "18", "b")]
    assert tell(before, after) == [("changed", "node", "18, 20", "18 (another build), 20, 22")]
    assert tell([], before) == [("added", "node", "", "18, 20")]


def test_a_package_without_a_version_is_not_taken_for_none() -> None:
    assert tell([package("tool", "")], [package("tool", "1.0")]) == [("changed", "tool", "(no version)", "1.0")]
    assert tell([], [package("tool", "")]) == [("added", "tool", "", "")]


def test_absurd_names_and_versions_are_cut() -> None:
    [row] = plan_changes([], [package("n" * 211, "1" * 211), package("n" * 211, "2" * 211)])
    assert (len(row.name), row.name[-1]) == (NAME_LIMIT_CHARS, "…")
    assert (len(row.after), row.after[-1]) == (VERSIONS_LIMIT_CHARS, "…")
    assert "…, 2" in row.after


PACKAGES = st.lists(st.builds(package, st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), st.sampled_from("xyz")))


@given(PACKAGES, PACKAGES)
def test_a_name_has_a_row_if_and_only_if_something_else_is_there(before: list[Package], after: list[Package]) -> None:
    rows = {row.name: row for row in plan_changes(before, after)}
    for name in "abc":
        old, new = ({one for one in packages if one.name == name} for packages in (before, after))
        assert (name in rows) == (old != new)
        if name in rows:
            assert rows[name].change == ("added" if not old else "removed" if not new else "changed")
            assert rows[name].change != "changed" or rows[name].before != rows[name].after
