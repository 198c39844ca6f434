"""What was left is counted, and the first of it is shown as a terminal may have it."""

from hyperhive.system.left_out import LeftOut


def test_all_are_counted_and_the_first_are_named() -> None:
    left = LeftOut(2)
    for name in (b"a", b"b", b"c"):
        left.add(name, "no file")
    assert (left.count, left.named) == (3, [("a", "no file"), ("b", "no file")])


def test_a_path_is_one_line_without_what_a_terminal_obeys() -> None:
    left = LeftOut()
    left.add(b"a\nb\x1b[2J\xff", "odd")
    assert left.named == [("a b\\x1b[2J\\xff", "odd")]


def test_a_long_path_is_cut_and_shows_that_it_was() -> None:
    left = LeftOut()
    left.add(b"x" * 200, "as long as may be")
    left.add(b"x" * 201, "longer")
    assert [path for path, _ in left.named] == ["x" * 200, "x" * 199 + "…"]
