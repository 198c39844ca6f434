"""/api/tokens: what programs show instead of a session. Only over the daemon's own socket."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path

from hyperhive.core.tokens import Token as Known
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.programs import NewToken, Token, TokenRequest

# Validated by `core.tokens` in the service; the bound only keeps error messages short.
TokenName = Annotated[str, Path(max_length=200)]


def token_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["tokens"])
    tokens = services.tokens

    @routes.get("/api/tokens")
    async def list_tokens() -> list[Token]:
        """All that were not revoked, the oldest first. Only over the daemon's own socket."""
        return [show_token(token) for token in tokens.list_tokens()]

    @routes.post("/api/tokens", status_code=201)
    async def create_token(request: TokenRequest) -> NewToken:
        """Makes a token. Its secret is in this answer and nowhere else. Only over the daemon's own socket."""
        lifetime = None if request.expires_s is None else timedelta(seconds=request.expires_s)
        token, secret = await tokens.create(request.name, request.scopes, lifetime)
        return NewToken(token=show_token(token), secret=secret)

    @routes.delete("/api/tokens/{name}", status_code=204)
    async def revoke_token(name: TokenName) -> None:
        """Ends a token at once. Only over the daemon's own socket."""
        await tokens.revoke(name)

    return routes


def show_token(token: Known) -> Token:
    return Token(
        name=token.name,
        scopes=sorted(token.scopes),
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
