"""What the helper is told when it is started."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Of the daemon's settings those that say what containers are made of. Anybody on the machine can read it."""

    data: str
    run: str
    images: str
    driver: str
    image_suite: str
    claude: str
    ca_file: str
    nix_inputs: str

    def render(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """What `render` made. Raises ValueError or TypeError for anything else."""
        return cls(**json.loads(text))
