"""Images: what containers of the drivers nspawn and gvisor have for a system."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from hyperhive.wire.operator.base import Model


class Image(Model):
    """One image. What is known of it only by its manifest is empty if that cannot be trusted."""

    id: str
    kind: Literal["base", "layer"]
    suite: str = Field(description="Of Debian, of a base.")
    packages: dict[str, str] = Field(description="What was asked for, with the versions that came of it.")
    size_bytes: int | None
    built_at: datetime | None
    used_by: list[str] = Field(description="The agents whose config needs it, those that are kept, too.")
    mounted: bool = Field(description="Whether a container on this machine runs on it now.")
    checked: bool = Field(description="Whether this daemon has compared it with its manifest.")
    problem: str = Field(description="Why it cannot be used; empty if nothing is known to be wrong.")


class ImageDifference(Model):
    path: str
    change: Literal["added", "removed", "changed"]


class ImageCheck(Model):
    """What came of comparing an image with its manifest: `differences` has the first 200 of `count`."""

    id: str
    problem: str = Field(description="Empty if it is as it was built.")
    hint: str
    differences: list[ImageDifference]
    count: int


class PrunedImages(Model):
    removed: list[str] = Field(description="Their ids.")
    freed_bytes: int
