"""The login of an agent's claude by the operator: begun, finished and given up through its harness.

The code goes to the harness and nowhere else: it is not logged, stored or told in an event. What comes back is an
agent's word, and so is the link: it is looked at again here, before the operator follows it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from hyperhive.core.errors import ConflictError, InvalidInputError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.login import parse_expiry, parse_login_code, parse_login_url
from hyperhive.core.names import MANAGER, parse_known_agent_name
from hyperhive.core.parking import ParkKind
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.host.agent_records import get_agent
from hyperhive.host.link.params import LoginFields
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notices import notify_manager
from hyperhive.host.park_records import release_in
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.host.store.store import Store, Transaction
from hyperhive.wire.agent_link import LOGIN_CANCEL, LOGIN_FINISH, LOGIN_START
from hyperhive.wire.operator.agents import Login, LoginStarted

# A little more than the harness gives claude for either.
ANSWER_TIMEOUT_S = 60.0
_ACCOUNT_CHARS = 200
_OWN = "own"


Call = Callable[[str, str, dict[str, Any]], Awaitable[Any]]


def call_over(links: LinkServer, wake: Callable[[str], Awaitable[None]]) -> Call:
    """Asks the harness of an agent: name, method, params. Raises UnavailableError if it is not there, or silent.

    `wake` has it there first, if the agent hibernates: but not to give up a login, of which nothing is left then.
    """

    async def call(name: str, method: str, params: dict[str, Any]) -> Any:
        if method != LOGIN_CANCEL:
            await wake(name)
        return await links.get_connection(name).call(method, params, timeout_s=ANSWER_TIMEOUT_S)

    return call


class Logins:
    """`credential` is what the hive holds for its agents: api_key, token, or none, and then each needs a login."""

    def __init__(self, store: Store, call: Call, credential: str) -> None:
        self._store = store
        self._call = call
        self._credential = credential

    async def start(self, name: str) -> LoginStarted:
        """The link where the operator gets a code; the same again while a login is under way.

        An agent that hibernates is woken. Raises ConflictError where the hive holds the credential, while a turn runs
        or the container is stopped; UnavailableError if claude or its harness does not answer, DriverError if the
        container of one that hibernates cannot be looked at.
        """
        answer = await self._ask(name, LOGIN_START, {})
        text = answer.get("url")
        try:
            return LoginStarted(url=parse_login_url(text if isinstance(text, str) else ""))
        except ValueError as error:
            raise UnavailableError(
                f"the link that {name} gave {error}", "do not follow it: look at what the agent does"
            ) from error

    async def finish(self, name: str, code: str) -> Login:
        """Ends the login that was begun, with its code. Releases the agent if it waited for one.

        Raises InvalidInputError for a wrong code, ConflictError if no login was begun, and as `start`.
        """
        try:
            parsed = parse_login_code(code)
        except ValueError as error:
            raise InvalidInputError(f"that {error}", "paste it again") from error
        answer = await self._ask(name, LOGIN_FINISH, {"code": parsed})
        login = _parse_login(name, answer)
        await self._store.write(lambda tx: _mark_logged_in(tx, name, login))
        return login

    async def cancel(self, name: str) -> None:
        """Gives up a login that was begun, if any. Raises as `start`, and ConflictError if the agent hibernates."""
        await self._ask(name, LOGIN_CANCEL, {})

    async def _ask(self, name: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        parse_known_agent_name(name)
        await self._get(name)
        if self._credential != "none":
            raise ConflictError(
                f"the hive holds the credential for all agents: {name} needs no login",
                "for a login of each agent's own, start the hive without one",
            )
        try:
            answer = await self._call(name, method, params)
        except UnavailableError as error:
            raise _explain_absence(await self._get(name), error) from error
        return answer if isinstance(answer, dict) else {}  # pyright: ignore[reportUnknownVariableType]

    async def _get(self, name: str) -> AgentRecord:
        return await self._store.read(lambda view: get_agent(view, name))


def _explain_absence(record: AgentRecord, error: UnavailableError) -> ConflictError | UnavailableError:
    if record.desired is Desired.STOPPED:
        return ConflictError(
            f"{record.name} is stopped: claude logs in from its container", f"hive start {record.name}"
        )
    if record.failure:
        return UnavailableError(f"{record.name} cannot be started: {record.failure}", f"hive start {record.name}")
    if record.hibernated:
        return ConflictError(
            f"{record.name} hibernates: no login is under way there", f"hive login {record.name} begins one"
        )
    return error


def _parse_login(name: str, answer: dict[str, Any]) -> Login:
    try:
        fields = LoginFields.model_validate(answer)
    except ValidationError as error:
        raise UnavailableError(f"{name} does not say what login it has now", "try again") from error
    if fields.kind != _OWN:
        raise UnavailableError(f"{name} says that it has no login still", "begin the login again")
    account = cut_text(render_safe_line(fields.account), _ACCOUNT_CHARS)
    return Login(kind=_OWN, account=account, expires_at=parse_expiry(fields.expires_at))


def _mark_logged_in(tx: Transaction, name: str, login: Login) -> None:
    get_agent(tx, name)
    expires_at = login.expires_at.isoformat() if login.expires_at else ""
    tx.emit(EventName.AGENT_LOGGED_IN, name, {"account": login.account, "expires_at": expires_at})
    release_in(tx, name, (ParkKind.LOGIN,))
    if name != MANAGER:
        notify_manager(tx, "logged_in", agent=name)
