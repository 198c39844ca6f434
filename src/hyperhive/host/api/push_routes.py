"""/api/devices: the browsers that are told by web push what needs the operator."""

from typing import Annotated

from fastapi import APIRouter, Path

from hyperhive.host.api.message_routes import NEWEST
from hyperhive.host.api.services import Services
from hyperhive.host.endpoints import parse_endpoint
from hyperhive.host.push.devices import Device as Known
from hyperhive.wire.operator.needs import Device, DeviceChange, DeviceRequest, PushKey

DeviceId = Annotated[int, Path(ge=0, le=NEWEST)]


def push_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["devices"])
    pushes = services.pushes

    def show_device(device: Known) -> Device:
        # Whoever knows the address could tell a device's push service about it: only whose service it is, is shown.
        service = parse_endpoint(device.endpoint, private=True).host
        return Device(
            id=device.id,
            name=device.name,
            service=service,
            added_at=device.added_at,
            muted=device.muted,
            sent_at=device.sent_at,
            error=device.error,
        )

    @routes.get("/api/push-key")
    async def show_key() -> PushKey:
        """What a browser subscribes with."""
        return PushKey(public_key=pushes.public_key)

    @routes.get("/api/devices")
    async def list_devices() -> list[Device]:
        return [show_device(device) for device in await pushes.list_devices()]

    @routes.post("/api/devices", status_code=201)
    async def add_device(request: DeviceRequest) -> Device:
        """Adds a browser that has subscribed. One that is known, by its endpoint, is renewed and stays muted."""
        return show_device(await pushes.add_device(request.endpoint, request.p256dh, request.auth, request.name))

    @routes.put("/api/devices/{device_id}")
    async def change_device(device_id: DeviceId, request: DeviceChange) -> Device:
        """Mutes a device, or lets it be told again."""
        return show_device(await pushes.mute_device(device_id, request.muted))

    @routes.delete("/api/devices/{device_id}", status_code=204)
    async def remove_device(device_id: DeviceId) -> None:
        await pushes.remove_device(device_id)

    @routes.post("/api/devices/{device_id}/test", status_code=202)
    async def try_device(device_id: DeviceId) -> None:
        """Sends a notification to be seen. Whether the push service took it, the list tells a moment later."""
        pushes.try_device(device_id)

    return routes
