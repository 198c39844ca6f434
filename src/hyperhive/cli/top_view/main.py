"""The program behind `hive top`."""

from functools import partial

from hyperhive.cli.client import find_hive
from hyperhive.cli.top_view.feed import Feed
from hyperhive.cli.top_view.view import Top


def main() -> None:
    hive = find_hive()
    Top(hive, partial(Feed, hive.roots)).run()


if __name__ == "__main__":
    main()
