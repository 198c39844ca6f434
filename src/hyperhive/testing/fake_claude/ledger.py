"""What was spent: the turn's own usage, and the sums over the session that the real program reports beside it."""

from typing import Any

from hyperhive.testing.fake_claude.events import make_uuid, model_usage, result_usage, token_usage
from hyperhive.testing.fake_claude.options import Options

Json = dict[str, Any]

_NO_SUBAGENTS: Json = {
    "spawned": 0,
    "requested": {"background": 0, "foreground": 0, "unset": 0},
    "started_in_background": 0,
    "max_depth": 0,
    "spawned_by_subagents": 0,
    "completed": 0,
    "failed": 0,
    "killed": {"parent": 0, "user": 0, "system": 0},
    "refused": {"depth_limit": 0, "concurrency_limit": 0, "budget": 0},
    "by_type": {},
}


class Ledger:
    """Counts tokens by model. `total_cost_usd` and `modelUsage` of a result are sums over the whole session."""

    def __init__(self) -> None:
        self.context_tokens = 0
        self._session: dict[str, Json] = {}
        self._turn: dict[str, Json] = {}
        self._results = 0

    def start_turn(self) -> None:
        self._turn = {}

    def add(self, model: str, usage: Json) -> None:
        self.context_tokens = usage["input_tokens"] + usage["cache_read_input_tokens"]
        for books in (self._session, self._turn):
            before = books.get(model, token_usage(0, 0))
            books[model] = {name: before[name] + count for name, count in usage.items()}

    def make_result(self, options: Options, duration_ms: int, **fields: Any) -> Json:
        """A `result` event: what every kind of result has, and `fields`."""
        by_model = {model: model_usage(usage) for model, usage in self._session.items()}
        turn = token_usage(0, 0)
        for usage in self._turn.values():
            turn = {name: turn[name] + usage[name] for name in turn}
        result: Json = {
            "type": "result",
            "duration_ms": duration_ms,
            "duration_api_ms": duration_ms,
            "session_id": options.session_id,
            "total_cost_usd": sum(entry["costUSD"] for entry in by_model.values()),
            "usage": result_usage(turn),
            "modelUsage": by_model,
            "model_usage_since_last_result": {model: model_usage(usage) for model, usage in self._turn.items()},
            "permission_denials": [],
            "fast_mode_state": "off",
            "fast_mode_disabled_reason": "sdk_opt_in_required",
            "subagent_stats": _NO_SUBAGENTS,
            "safety_stops": 0,
            "uuid": make_uuid(),
            "queued_turn_count": 0,
            "result_index": self._results,
            **fields,
        }
        self._results += 1
        return result
