"""Keeps the idle harness 4 MB smaller: imported before asyncio, it makes `import ssl` fail, which asyncio allows for.

The harness speaks over unix sockets alone. An `ssl` that is loaded already stays.
"""

import sys

sys.modules.setdefault("ssl", None)  # pyright: ignore[reportArgumentType]  # the documented way to block an import
