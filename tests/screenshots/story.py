"""The swarm of the screenshots: what it is told, and what the stand-in of the model has it do then.

All else is real: the daemon, the containers, the claude CLI, the commits. An agent's script is found by the text of a
message to it, so that what is seen on the pages are the words of people and agents, not scripts.
"""

import json
import re
from dataclasses import dataclass, replace

from hyperhive.testing.messages_api.reply import Answer, Reply
from hyperhive.testing.messages_api.request import ParsedRequest
from hyperhive.testing.messages_api.rules import answer_script
from hyperhive.testing.steps import Text
from screenshots.code import (
    BUILDER_TOML,
    CASES,
    FAULTY,
    FIRST,
    HANDBOOK,
    REVIEWER_TOML,
    REVIEWER_WORDS,
    SCOUT_FIRST_TOML,
    SCOUT_TOML,
    SCOUT_WORDS,
    SCRIBE_TOML,
)

REPOSITORY = "/state/tidewatch"
# Stands in a script for the id of the message that it is the answer to.
_ASKED = "the message"


def call(tool: str, **arguments: object) -> str:
    return f"tool {tool} {json.dumps(arguments)}"


def bash(command: str, description: str, **more: object) -> str:
    return call("Bash", command=command, description=description, **more)


def change_config(agent: str, description: str, prompt: str = "", commit: str = "", **files: str) -> tuple[str, str]:
    """The manager's commit to an agent's config, and its request to have it applied."""
    texts = {name.replace("_", "."): text for name, text in files.items()}
    if prompt:
        texts["prompt.md"] = prompt
    writes = [f"cat > {name} <<'END'\n{text}END" for name, text in texts.items()]
    lines = ["set -e", f"cd /agents/{agent}/config", "git fetch --quiet applied"]
    lines += ["git checkout --quiet -B proposal applied/main", *writes, "git add --all"]
    lines.append(f"git commit --quiet --message '{commit or description}'")
    return (
        bash("(" + "\n".join(lines) + ")", f"change the config of {agent}"),
        call("request_apply_commit", agent=agent, description=description),
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """What an agent does after a message with these very words."""

    words: str
    steps: tuple[str, ...]

    @property
    def script(self) -> str:
        return "\n".join(f"%% {step}" for step in self.steps)


# -- what they say -----------------------------------------------------------------------------------------

ROLES = "give everyone the config of their role"
WISH = "we want a small service that warns the harbour office of high tides, a day ahead. please plan it and start."
PLAN = """the plan, in three parts:

1. **scout** finds who publishes water levels, and in which units
2. **builder** writes `tide.py`: from levels to warnings, with tests beside it
3. **reviewer** reads every change before it is pushed; **scribe** keeps the handbook

i tell you when the first warning is right."""
MORE = "good. warn for the outer harbour only, the inner one has a lock."
UNDERSTOOD = "understood: the outer harbour alone. builder and scout know."
SEARCH = "please find out who publishes water levels for the outer harbour, how often, and in which units."
BUILD = "please write tide.py: from a list of water levels the spans above a threshold. tests beside it, please."
WRITE = "please begin the handbook: what a warning means, and whom the harbour office calls."
REVIEW = f"the first version is in {REPOSITORY}, with three tests. please have a look before it is pushed."
FINDING = (
    "two findings: a level that *equals* the threshold belongs to the span, and an open span at the end of the list "
    "is lost. both are in `find_spans`."
)
PUSH = "please push the branch tides when you are content with it."
BLOCKED = (
    "the levels come from `api.tides.example`, every six minutes, in centimetres. i cannot reach it: the host is not "
    "in my config. may i have it?"
)
FOUND = "the first warning came out right: replayed against last march, all four high waters were found a day ahead."
DRAFT = "the handbook has its first three pages. one question is open, it waits for you above."
UNITS = "are the levels of the outer harbour in metres or in centimetres above datum?"

NETWORK = change_config(
    "scout",
    "scout needs the host that publishes the levels, and a budget for a month of them",
    SCOUT_WORDS + "Levels are in centimetres above datum. Never fetch more often than every six minutes.\n",
    agent_toml=SCOUT_TOML,
    commit="scout: the levels of api.tides.example",
)

# -- what they do ------------------------------------------------------------------------------------------

SCENES: dict[str, tuple[Scene, ...]] = {
    "manager": (
        Scene(
            ROLES,
            (
                *change_config("builder", "builder writes code", agent_toml=BUILDER_TOML),
                *change_config("reviewer", "reviewer reads", REVIEWER_WORDS, agent_toml=REVIEWER_TOML),
                *change_config("scout", "scout looks things up", SCOUT_WORDS, agent_toml=SCOUT_FIRST_TOML),
                *change_config("scribe", "scribe writes prose", agent_toml=SCRIBE_TOML),
                "say proposed",
            ),
        ),
        Scene(
            WISH,
            (
                "think who is here, and who can do what?",
                call("list_agents"),
                f"and {call('send', to='scout', body=SEARCH)}",
                call("send", to="builder", body=BUILD),
                f"and {call('send', to='scribe', body=WRITE)}",
                f"and {call('send', to='operator', body=PLAN, in_reply_to=_ASKED)}",
                call("remind_me", note="ask builder and reviewer where the first warning is", in_seconds=3 * 3600),
                "usage input=8100 output=1400 cache_read=22000",
                "say three tasks are given, the operator has the plan.",
            ),
        ),
        Scene(MORE, (call("send", to="operator", body=UNDERSTOOD, in_reply_to=_ASKED), "say noted.")),
        Scene(
            BLOCKED,
            (
                *NETWORK,
                call(
                    "request_spawn",
                    name="keeper",
                    description="keeps watch on the service once it runs: restarts it, and reads its log each hour",
                ),
                "say the operator has to decide now.",
            ),
        ),
    ),
    "scout": (
        Scene(
            SEARCH,
            (
                "think the harbour office buys its levels from somebody. let me see what i can reach.",
                bash("curl -sS --max-time 20 https://api.tides.example/v2/stations", "ask for the stations"),
                "usage input=61000 output=2100 cache_read=90000",
                call("send", to="manager", body=BLOCKED),
                "usage input=182000 output=9000",
                "say i know where the levels are, and wait for the way there.",
            ),
        ),
    ),
    "builder": (
        Scene(
            BUILD,
            (
                bash(
                    f"git init --quiet --initial-branch tides {REPOSITORY} && cd {REPOSITORY} "
                    "&& git config user.name builder && git config user.email builder@hive",
                    "make the repository",
                ),
                call("Write", file_path=f"{REPOSITORY}/tide.py", content=FIRST),
                f"and {call('Write', file_path=f'{REPOSITORY}/test_tide.py', content=CASES)}",
                bash(f"cd {REPOSITORY} && python3 -m unittest -v", "run the tests"),
                "think the last span is not closed: `end` stands for the level after it.",
                call("Edit", file_path=f"{REPOSITORY}/tide.py", old_string=FAULTY[0], new_string=FAULTY[1]),
                bash(f"cd {REPOSITORY} && python3 -m unittest -v", "run the tests again"),
                bash(
                    f"cd {REPOSITORY} && git add --all && git commit --quiet --message 'spans above a threshold' "
                    "&& git log --oneline --stat",
                    "commit",
                ),
                call("send", to="reviewer", body=REVIEW),
                "usage input=21000 output=5200 cache_read=64000",
                "say the first version is committed, all tests pass. reviewer has been asked.",
            ),
        ),
        Scene(
            FINDING,
            (
                "think both are right. the comparison first, then the end of the list.",
                call("Read", file_path=f"{REPOSITORY}/tide.py"),
                call("Edit", file_path=f"{REPOSITORY}/tide.py", old_string=FAULTY[2], new_string=FAULTY[3]),
                bash(f"cd {REPOSITORY} && python3 -m unittest", "run the tests"),
                call("send", to="operator", body=FOUND),
                "and say now a month of levels, to be sure.",
                "usage input=30500 output=2200 cache_read=88000",
                bash(
                    f"cd {REPOSITORY} && python3 -c 'import time; print(\"replaying march…\"); time.sleep(3000)'",
                    "replay a month of levels",
                    timeout=600_000,
                ),
            ),
        ),
    ),
    "reviewer": (
        Scene(
            REVIEW,
            (
                bash(
                    "git clone --quiet /config /state/read && git -C /state/read log --oneline",
                    "make a place to read in",
                ),
                "usage input=18000 output=1500 cache_read=24000",
                call("send", to="builder", body=FINDING),
                "say two findings, both small.",
            ),
        ),
        Scene(
            PUSH,
            (
                "think the findings are mended in builder's copy. pushing is what the operator is asked about.",
                bash("cd /state/read && git push origin HEAD:tides", "push what was reviewed"),
                "say pushed.",
            ),
        ),
    ),
    "scribe": (
        Scene(
            WRITE,
            (
                call("Write", file_path="/state/handbook.md", content=HANDBOOK),
                call(
                    "ask_operator",
                    question="whom does the harbour office call at night, when a warning comes?",
                    options=["the lock keeper", "the duty engineer", "nobody: it waits for the morning"],
                    ttl_seconds=8 * 3600,
                ),
                call("remind_me", note="read the handbook once more with fresh eyes", in_seconds=20 * 3600),
                f"and {call('remind_me', note='ask builder which warnings there are by now', in_seconds=2 * 3600)}",
                call("send", to="operator", body=DRAFT),
                "usage input=12000 output=3100 cache_read=31000",
                "say the handbook is begun.",
            ),
        ),
    ),
}


def answer_story(request: ParsedRequest) -> Answer | None:
    """The rule: the scripts of all messages that are being read, one after the other."""
    scripts = {scene.words: scene.script for scenes in SCENES.values() for scene in scenes}
    read = re.findall(r'<message id="(\d+)"[^>]*>\n(.*?)\n</message>', request.user_text, re.DOTALL)
    due = [scripts[words].replace(f'"{_ASKED}"', number) for number, words in read if words in scripts]
    if due:
        return answer_script(replace(request, user_text="\n".join(due)))
    return Reply([Text("noted.")]) if "<message " in request.user_text else None
