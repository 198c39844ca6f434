"""A daemon whose containers run a harness of an older version: `python old_hive.py` with the daemon's arguments.

To be started `fresh`: where modules are imported already, they know the harness of now.
"""

import sys

from hyperhive.host import container_spec

_OLDER = (
    "import hyperhive, runpy; hyperhive.__version__ = '0.0.9'"
    "; runpy.run_module('hyperhive.harness.main', run_name='__main__')"
)
container_spec.HARNESS = (sys.executable, "-I", "-c", _OLDER)

from hyperhive.host.main import main  # noqa: E402 - what it imports takes the harness from there

if __name__ == "__main__":
    main()
