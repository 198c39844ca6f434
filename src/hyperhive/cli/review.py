"""What the operator decides on, as `hive pending` and `hive show` print it. Values in, text out; nothing is cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperhive.cli.client import Row, parse_row, parse_rows
from hyperhive.cli.diffs import (
    SIDE_BY_SIDE_COLUMNS,
    DiffStyle,
    is_wide,
    render_file_head,
    render_files,
    render_sign,
    render_stat,
)
from hyperhive.cli.rendering import (
    Column,
    Screen,
    field,
    line_field,
    render_age,
    render_block,
    render_exact_line,
    render_full_table,
)
from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.effects import Effect

EFFECTS = {
    Effect.LIVE.value: "at once",
    Effect.NEXT_TURN.value: "at the next turn",
    Effect.RESTART.value: "with a restart of the container",
    Effect.REBUILD.value: "after a build, with a restart of the container",
}


def render_head(row: Row, screen: Screen) -> str:
    """Number, kind, agent, who asked and when; what was asked for below it, in full."""
    what = screen.title(f"#{line_field(row, 'id')} {line_field(row, 'kind')} {line_field(row, 'agent')}")
    age = render_age(str(row.get("requested_at")), screen.now)
    head = f"{what}, asked for by {line_field(row, 'requested_by')} {age} ago"
    if row.get("status") != ApprovalStatus.PENDING:
        head += f", {screen.state(line_field(row, 'status'))}"
    block = render_block(head, str(row.get("description") or "(no description)"), screen)
    if row.get("reason"):
        block += "\n" + render_block("reason:", str(row["reason"]), screen)
    return block


@dataclass(frozen=True, slots=True)
class Request:
    """An approval of the list, with its review if it has a commit, or why that cannot be shown."""

    row: Row
    review: Row | None = None
    problem: str = ""


def render_request(request: Request, screen: Screen) -> str:
    """One approval of the list: its head, and of a config's change what it means and how large it is."""
    row, review = request.row, request.review
    parts = [render_head(row, screen)]
    if request.problem:
        parts.append(render_block(screen.bad("the change cannot be shown:"), request.problem, screen))
    if review is not None:
        parts.extend(_render_warnings(review, screen))
        comparison = review.get("comparison")
        if comparison is None:
            parts.append(_explain_no_comparison(row))
        else:
            parts.extend(_render_meaning(parse_row(comparison), screen))
            parts.extend(_render_file_list(parse_row(comparison), screen))
        notes = parse_rows(review.get("notes") or [])
        if notes:
            parts.append(f"notes for its first turn: {render_stat(notes)}")
        parts.append(screen.dim(f"hive show {line_field(row, 'id')} for the diff"))
    return "\n".join(parts)


def render_review(review: Row, screen: Screen, style: DiffStyle, *, since: bool) -> str:
    """All of one approval: what it is, what it means, what it changes, and with `since` what is new about it."""
    approval = parse_row(review.get("approval"))
    parts = [render_head(approval, screen), *_render_pins(review), *_render_warnings(review, screen)]
    if style.side_by_side and not is_wide(screen):
        parts.append(screen.dim(f"not side by side: that takes a terminal of {SIDE_BY_SIDE_COLUMNS} columns"))
    comparison = review.get("comparison")
    if comparison is None:
        parts += ["", _explain_no_comparison(approval)]
    else:
        parts.extend(_render_comparison(parse_row(comparison), screen, style))
    notes = parse_rows(review.get("notes") or [])
    if notes:
        head = screen.title(f"notes for its first turn: {render_stat(notes)}")
        parts += ["", head, render_files(notes, screen, style)]
    parts.extend(_render_since(review, screen, style, since=since))
    parts += ["", screen.dim(plan_next(approval))]
    return "\n".join(parts)


def _explain_no_comparison(approval: Row) -> str:
    if approval.get("commit"):
        return "what it changes cannot be shown"
    return "a new agent with the default config: there is nothing to compare"


def _render_pins(review: Row) -> Iterator[str]:
    """The commit that is applied, and the one that the diff is against: not always the one it was made for."""
    approval = parse_row(review.get("approval"))
    comparison = review.get("comparison")
    base = approval if comparison is None else parse_row(comparison)
    if approval.get("commit"):
        yield f"commit  {line_field(approval, 'commit')}"
    if base.get("base"):
        yield f"base    {line_field(base, 'base')}"
    if approval.get("reverts_to") is not None:
        yield f"brings back deployed/{line_field(approval, 'reverts_to')}"


def _render_warnings(review: Row, screen: Screen) -> Iterator[str]:
    warnings = review.get("warnings")
    for warning in warnings if isinstance(warnings, list) else []:  # pyright: ignore[reportUnknownVariableType]
        yield screen.bad("warning: ") + render_exact_line(str(warning))  # pyright: ignore[reportUnknownArgumentType]


def _render_comparison(comparison: Row, screen: Screen, style: DiffStyle) -> Iterator[str]:
    files = parse_rows(comparison.get("files"))
    yield from _render_meaning(comparison, screen)
    if len(files) > 1:
        yield from _render_file_list(comparison, screen)
    if files:
        yield from ("", render_files(files, screen, style))


def _render_meaning(comparison: Row, screen: Screen) -> Iterator[str]:
    rows = parse_rows(comparison.get("meaning"))
    effect = field(comparison, "effect")
    yield ""
    if not rows:
        # A change of any file has a meaning, unless the config cannot be read: the warnings say why.
        yield "what it means is not known" if comparison.get("files") else "it changes nothing"
        return
    yield f"{screen.title('what it means')}, {EFFECTS.get(effect, render_exact_line(effect))}"
    columns = [
        Column("", lambda row: render_sign(field(row, "change"))),
        Column("AREA", lambda row: field(row, "area")),
        Column("SUBJECT", lambda row: field(row, "subject")),
        Column("EFFECT", lambda row: field(row, "effect").replace("_", " ")),
        Column("BEFORE", lambda row: field(row, "before")),
        Column("AFTER", lambda row: field(row, "after")),
    ]
    yield render_full_table(columns, rows, screen)


def _render_file_list(comparison: Row, screen: Screen) -> Iterator[str]:
    files = parse_rows(comparison.get("files"))
    if not files:
        return
    yield ""
    yield screen.title(render_stat(files))
    yield from (f"  {render_file_head(file, screen)}" for file in files)


def _render_since(review: Row, screen: Screen, style: DiffStyle, *, since: bool) -> Iterator[str]:
    earlier = review.get("earlier")
    number = line_field(review, "earlier")
    changed = review.get("since_earlier")
    if earlier is None or changed is None:
        if since:
            yield from ("", "there is no earlier proposal to compare with")
        return
    comparison = parse_row(changed)
    files: Sequence[Row] = parse_rows(comparison.get("files"))
    yield ""
    if not since:
        id_ = line_field(parse_row(review.get("approval")), "id")
        yield f"since #{number}, which was not applied: {render_stat(files)}: hive show {id_} --since"
        return
    yield screen.title(f"since #{number}, which was not applied")
    yield from _render_comparison(comparison, screen, style)


def plan_next(approval: Row) -> str:
    """What the operator may type next."""
    id_, agent, status = (line_field(approval, name) for name in ("id", "agent", "status"))
    if status == ApprovalStatus.PENDING:
        return f"hive approve {id_} · hive deny {id_} --reason TEXT"
    if approval.get("kind") == ApprovalKind.SPAWN and not approval.get("commit"):
        return "hive ps"
    return f"hive config {agent} --history"
