"""Whatever is sent to the API, as its document allows it and as it does not: it is never the hive that fails."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from hive_process import HiveProcess

# The library's types hold some that it does not tell.
Case = Any
Operation = Any

# For all operations together, shared out evenly.
BUDGET_S = 45.0
EXAMPLES_LIMIT = 25
# What would end the session that asks.
LEFT_OUT = {("POST", "/api/logout")}
# Half of the requests are about something that is there.
KNOWN: dict[str, Any] = {"name": "manager", "agent": "manager", "message_id": 1, "question_id": 1, "approval_id": 1}


@pytest.fixture(scope="module")
def session(shared_hive: HiveProcess) -> Iterator[httpx.Client]:
    shared_hive.wait_state("manager", "idle", "parked")
    shared_hive.post("/api/messages", {"to": "manager", "body": "hello"})
    with shared_hive.browser_session() as client:
        yield client


def list_operations(hive: HiveProcess) -> list[Operation]:
    schema: Any = schemathesis.openapi.from_dict(hive.get("/api/openapi.json"))
    operations: list[Operation] = [result.ok() for result in schema.get_all_operations()]
    return [one for one in operations if (one.method.upper(), one.path) not in LEFT_OUT]


def ask(session: httpx.Client, case: Case) -> int:
    """The status of the answer; its body is not waited for, as a stream has no end."""
    # What a client cannot even write never reaches the hive.
    try:
        sent = case.as_transport_kwargs(base_url=str(session.base_url))
        headers = {name: value for name, value in sent["headers"].items() if name.lower() not in {"host", "cookie"}}
        request = session.build_request(
            sent["method"],
            sent["url"],
            params=sent.get("params"),
            json=sent.get("json"),
            content=sent.get("data"),
            headers=headers | {"origin": session.headers["origin"]},
        )
    except (httpx.InvalidURL, UnicodeEncodeError, TypeError, ValueError):
        return 0
    try:
        response = session.send(request, stream=True)
    except httpx.LocalProtocolError:
        return 0
    response.close()
    return response.status_code


def fuzz(session: httpx.Client, operation: Operation, budget_s: float) -> list[int]:
    """The statuses that were answered within about `budget_s`. Fails for a mistake of the hive's own."""
    ends_at = time.monotonic() + budget_s
    statuses: list[int] = []
    cases = st.one_of(
        *(operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
    )

    @settings(
        max_examples=EXAMPLES_LIMIT,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=cases, known=st.booleans())
    def run(case: Case, known: bool) -> None:
        # Each is asked at least once, however long a machine under load takes to think of a request.
        if time.monotonic() > ends_at and any(statuses):
            return
        if known:
            for values in (case.path_parameters, case.query):
                values.update({key: KNOWN[key] for key in values if key in KNOWN})
        status = ask(session, case)
        assert status != 500, f"{operation.method} {case.formatted_path} {case.query!r} {case.body!r}"
        statuses.append(status)

    run()
    return statuses


@pytest.mark.slow
def test_no_request_that_the_document_describes_or_forbids_makes_the_hive_fail(
    shared_hive: HiveProcess, session: httpx.Client
) -> None:
    operations = list_operations(shared_hive)
    assert len(operations) > 50
    seen: dict[str, set[int]] = {}
    failed: list[str] = []
    for operation in operations:
        name = f"{operation.method.upper()} {operation.path}"
        try:
            seen[name] = set(fuzz(session, operation, BUDGET_S / len(operations)))
        except AssertionError as error:
            failed.append(str(error))
    assert failed == [], shared_hive.log[-4000:]
    # It was the routes that were asked, not the guard in front of them.
    assert all(statuses - {0} for statuses in seen.values()), seen
    assert not [name for name, statuses in seen.items() if 401 in statuses]
    assert '"api.failed"' not in shared_hive.log
    assert session.get("/api/hive").status_code == 200
