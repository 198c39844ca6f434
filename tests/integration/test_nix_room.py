"""The sandbox of evaluations on another machine than one with all the low process numbers: in a container."""

import json
import subprocess
import sys
from pathlib import Path

import nix_rig
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake

# A machine whose first processes have ended: of the numbers that follow 1 it has none.
_MACHINE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_BEGINNING = 'for number in 1 2 3 4 5 6 7 8; do /bin/true; done; "$@"'
PROGRAM = """\
import asyncio, sys
from pathlib import Path
from hyperhive.host.drivers.nix_evaluation import evaluate_agent
assert not Path("/proc/2").exists()
print(asyncio.run(evaluate_agent(Path(sys.argv[1]))).decode())
"""


def test_no_process_of_the_machine_is_taken_for_one_of_its_own(tmp_path: Path) -> None:
    inputs = nix_rig.make_inputs(tmp_path)
    identity = Identity("alice", "h-alice", 8945, nix_rig.SYSTEM)
    text = b'{ hyperhive.model = "opus"; }'
    write_flake(tmp_path / "flake", NixInputs(inputs.hive, inputs.nixpkgs), identity, {"agent.nix": text})
    program = (sys.executable, "-c", PROGRAM, str(tmp_path / "flake"))
    argv = [*_MACHINE, "sh", "-c", _BEGINNING, "sh", *program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "opus"
