"""A harness's loopback port as a process of its own: python fuzzed_port.py PORT SOCKET. Says so once it listens."""

import asyncio
import sys
from pathlib import Path

from hyperhive.harness.local_port import LocalPort


async def main() -> None:
    await LocalPort(int(sys.argv[1]), Path(sys.argv[2])).run()


if __name__ == "__main__":
    asyncio.run(main())
