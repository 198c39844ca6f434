"""/api/images: what containers have for a system."""

from typing import Annotated

from fastapi import APIRouter, Path

from hyperhive.host.api.services import Services
from hyperhive.wire.operator.images import Image, ImageCheck, PrunedImages

ImageId = Annotated[str, Path(max_length=80)]


def image_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["hive"])
    images = services.images

    @routes.get("/api/images")
    async def list_images() -> list[Image]:
        """The oldest first. None where containers have this machine's own system."""
        return await images.list_images()

    @routes.post("/api/images/prune")
    async def prune_images() -> PrunedImages:
        """Removes those that no agent needs and no container runs on."""
        return await images.prune()

    @routes.post("/api/images/{image_id}/verify")
    async def verify_image(image_id: ImageId) -> ImageCheck:
        """Reads all of it and compares it with its manifest. What differs is not used any more."""
        return await images.compare(image_id)

    @routes.delete("/api/images/{image_id}", status_code=204)
    async def remove_image(image_id: ImageId) -> None:
        """Removes it, if no agent needs it, or if it differs from what was built; and no container runs on it."""
        await images.remove(image_id)

    return routes
