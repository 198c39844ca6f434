"""The table of MCP tools an agent has: what claude reads about each, and the link method that answers it."""

from dataclasses import dataclass, field
from typing import Any

from hyperhive.core.messages import BODY_LIMIT_BYTES, RECV_MAX_MESSAGES, RECV_WAIT_LIMIT_S, TTL_LIMIT_S, Priority
from hyperhive.core.questions import OPTIONS_LIMIT
from hyperhive.core.questions import TTL_LIMIT_S as QUESTION_TTL_LIMIT_S
from hyperhive.core.reminders import AHEAD_LIMIT_DAYS, NOTE_LIMIT_CHARS, WAITING_LIMIT
from hyperhive.wire import agent_link

# The MCP server's name: claude sees its tools as mcp__hyperhive__<tool>.
SERVER_NAME = "hyperhive"


@dataclass(frozen=True, slots=True)
class Tool:
    """One MCP tool. `properties` and `required` are JSON Schema; `method` is the agent link's."""

    name: str
    description: str
    method: str
    properties: dict[str, Any] = field(default_factory=dict[str, Any])
    required: tuple[str, ...] = ()
    manager_only: bool = False

    @property
    def input_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": self.properties,
            "required": list(self.required),
            "additionalProperties": False,
        }


_NAME = {"type": "string", "description": "An agent's name: a-z, 0-9 and '-'."}
_QUESTION: dict[str, Any] = {
    "question": {"type": "string"},
    "options": {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": OPTIONS_LIMIT,
        "description": "Answers to choose from; own words are always possible beside them.",
    },
    "multi": {"type": "boolean", "description": "Whether several options may be chosen."},
    "ttl_seconds": {
        "type": "number",
        "minimum": 1,
        "maximum": QUESTION_TTL_LIMIT_S,
        "description": "How long it stays open; one day if left out.",
    },
}
_COMMIT_REF = {"type": "string", "description": "A branch, tag or commit of the config; HEAD if left out."}

TOOLS: tuple[Tool, ...] = (
    Tool(
        name="send",
        description=(
            "Send a message to another agent, to 'manager' or to 'operator' (the human), or to '*': every agent you "
            f"may write to. Returns the message's id once it is safely stored. At most {BODY_LIMIT_BYTES // 1024} KiB."
        ),
        method=agent_link.SEND,
        properties={
            "to": {"type": "string", "description": "Who receives it: an agent's name, 'manager', 'operator' or '*'."},
            "body": {"type": "string", "description": "The text."},
            "in_reply_to": {"type": "integer", "description": "The id of the message this answers; not with '*'."},
            "priority": {
                "type": "string",
                "enum": [str(priority) for priority in Priority],
                "description": "What is read first; normal if left out.",
            },
            "ttl_seconds": {
                "type": "number",
                "minimum": 1,
                "maximum": TTL_LIMIT_S,
                "description": "Drop it if it has not been delivered by then; if left out it waits for ever.",
            },
        },
        required=("to", "body"),
    ),
    Tool(
        name="message_status",
        description=(
            "What became of a message you sent. One receipt for each recipient: to, state (queued, leased: in a turn "
            "of theirs now, acked: that turn ended well, expired, dead: given up), sent_at, deliveries, settled_at, "
            "note. Acked does not mean answered: answers come as messages."
        ),
        method=agent_link.MESSAGE_STATUS,
        properties={"id": {"type": "integer", "description": "As send returned it; of a broadcast the first."}},
        required=("id",),
    ),
    Tool(
        name="recv",
        description=(
            "Fetch messages that wait for you. Without wait_seconds it looks and returns at once, also when there "
            "is nothing. Messages that arrive between turns start a turn by themselves: there is no need to poll."
        ),
        method=agent_link.RECV,
        properties={
            "wait_seconds": {"type": "number", "minimum": 0, "maximum": RECV_WAIT_LIMIT_S},
            "max": {"type": "integer", "minimum": 1, "maximum": RECV_MAX_MESSAGES},
        },
    ),
    Tool(
        name="ask_operator",
        description=(
            "Ask the human a question. Returns its id at once; the answer arrives later as a message from 'operator' "
            "with answer_to='<id>'. Free text is always possible beside the options."
        ),
        method=agent_link.ASK_OPERATOR,
        properties=_QUESTION,
        required=("question",),
    ),
    Tool(
        name="ask",
        description=(
            "Ask another agent, or 'manager', a question that wants a definite answer. Returns its id at once; the "
            "answer arrives later as a message with answer_to='<id>': from whom you asked, or from 'system' if the "
            "question ended without one. Do not wait for it. To just talk, use send."
        ),
        method=agent_link.ASK,
        properties={"to": {"type": "string", "description": "An agent's name, or 'manager'."}, **_QUESTION},
        required=("to", "question"),
    ),
    Tool(
        name="answer",
        description=(
            "Answer a question that you were asked: by a message with question='<id>' in its envelope. Choose "
            "options, write text, or both. An answer is final."
        ),
        method=agent_link.ANSWER,
        properties={
            "id": {"type": "integer", "description": "The question's id."},
            "options": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Of those offered, word for word; one, unless any may be chosen.",
            },
            "text": {"type": "string", "description": "In your own words."},
        },
        required=("id",),
    ),
    Tool(
        name="cancel_question",
        description="Take back a question that you asked, the operator or an agent, and that nobody answered yet.",
        method=agent_link.CANCEL_QUESTION,
        properties={"id": {"type": "integer", "description": "As ask or ask_operator returned it."}},
        required=("id",),
    ),
    Tool(
        name="remind_me",
        description=(
            "Be sent a note later: it arrives as a message from 'system' and starts a turn, however long that is "
            "and whatever is restarted meanwhile. This is the only timer you have: claude's own (CronCreate, "
            "ScheduleWakeup) do not exist here, and a `sleep` in the background ends with your process. Give either "
            f"at or in_seconds, at most {AHEAD_LIMIT_DAYS} days ahead; at most {WAITING_LIMIT} wait at once. Messages "
            "and answers arrive by themselves: do not use it to poll for them. For something regular, the manager "
            "can propose a schedule in your config. Returns the reminder's id."
        ),
        method=agent_link.REMIND_ME,
        properties={
            "note": {
                "type": "string",
                "description": f"What to tell you then, at most {NOTE_LIMIT_CHARS:,} characters. Write what you will "
                "need to know: your context may be gone by then.",
            },
            "at": {
                "type": "string",
                "description": "When: RFC 3339 with an offset, such as 2026-11-21T19:30:00Z. `date -u +%FT%TZ` tells "
                "what time it is.",
            },
            "in_seconds": {"type": "number", "description": "In how many seconds from now."},
        },
        required=("note",),
    ),
    Tool(
        name="list_reminders",
        description="List your reminders that wait: id, due_at (UTC), note; the next one first.",
        method=agent_link.LIST_REMINDERS,
    ),
    Tool(
        name="cancel_reminder",
        description="Drop one of your reminders.",
        method=agent_link.CANCEL_REMINDER,
        properties={"id": {"type": "integer", "description": "As remind_me returned it, or list_reminders."}},
        required=("id",),
    ),
    Tool(
        name="request_spawn",
        description=(
            "Propose a new agent with the default config. The operator decides; the decision arrives as a message "
            "from 'system'. Returns the approval's id."
        ),
        method=agent_link.REQUEST_SPAWN,
        properties={
            "name": _NAME,
            "description": {"type": "string", "description": "What it is for; the operator reads this."},
        },
        required=("name",),
        manager_only=True,
    ),
    Tool(
        name="request_spawn_draft",
        description=(
            "Begin a new agent with a config of its own. Makes a draft, no container: edit and commit the config in "
            "/agents/<name>/config; files you put into /agents/<name>/state are its /state when it begins "
            "(notes.md is what it reads first). Then call request_spawn_commit."
        ),
        method=agent_link.REQUEST_SPAWN_DRAFT,
        properties={"name": _NAME},
        required=("name",),
        manager_only=True,
    ),
    Tool(
        name="request_spawn_commit",
        description=(
            "Propose the agent of a draft: one commit of /agents/<name>/config and all files of "
            "/agents/<name>/state. The operator sees both and decides; the decision arrives as a message from "
            "'system'. Returns the approval's id."
        ),
        method=agent_link.REQUEST_SPAWN_COMMIT,
        properties={
            "name": _NAME,
            "commit_ref": _COMMIT_REF,
            "description": {"type": "string", "description": "What it is for; the operator reads this."},
        },
        required=("name",),
        manager_only=True,
    ),
    Tool(
        name="request_apply_commit",
        description=(
            "Propose a change of an agent's config (agent.toml or agent.nix, prompt.md, other files): one commit of "
            "/agents/<agent>/config that builds on what is deployed. Commit first: what is not committed is not "
            "proposed. The operator decides about exactly that commit; the decision arrives as a message from "
            "'system'. The applied repo is /applied/<agent>, read-only (remote 'applied' of the working copy): main "
            "is deployed, tags deployed/N, failed/N and denied/N are past approvals. /applied/agent.schema.json "
            "tells what agent.toml or agent.nix may hold. Returns the approval's id."
        ),
        method=agent_link.REQUEST_APPLY_COMMIT,
        properties={
            "agent": _NAME,
            "commit_ref": _COMMIT_REF,
            "description": {"type": "string", "description": "Why; the operator reads this."},
        },
        required=("agent",),
        manager_only=True,
    ),
    Tool(
        name="list_agents",
        description="List the agents of this hive and what each is doing.",
        method=agent_link.LIST_AGENTS,
        manager_only=True,
    ),
    Tool(
        name="kill",
        description="Stop an agent's container. Its messages wait until it is started again.",
        method=agent_link.KILL,
        properties={"name": _NAME},
        required=("name",),
        manager_only=True,
    ),
    Tool(
        name="start",
        description="Start a stopped agent.",
        method=agent_link.START,
        properties={"name": _NAME},
        required=("name",),
        manager_only=True,
    ),
    Tool(
        name="restart",
        description="Stop an agent's container and start it again.",
        method=agent_link.RESTART,
        properties={"name": _NAME},
        required=("name",),
        manager_only=True,
    ),
)


def list_tools(manager: bool) -> tuple[Tool, ...]:
    """The tools of an agent, or of the manager."""
    return tuple(tool for tool in TOOLS if manager or not tool.manager_only)
