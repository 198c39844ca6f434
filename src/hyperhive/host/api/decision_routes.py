"""/api/approvals, /api/questions: what waits for the operator, and deciding it."""

from fastapi import APIRouter

from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.questions import QuestionStatus
from hyperhive.host.api.message_routes import Id
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_approval, show_question
from hyperhive.wire.operator.configs import Approval, DenyRequest, Review, SystemChange
from hyperhive.wire.operator.messages import AnswerRequest, Question


def decision_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["decisions"])
    _add_approvals(routes, services)
    _add_questions(routes, services)
    return routes


def _add_approvals(routes: APIRouter, services: Services) -> None:
    @routes.get("/api/approvals")
    async def list_approvals(status: ApprovalStatus | None = None) -> list[Approval]:
        return [show_approval(approval) for approval in await services.approvals.list_approvals(status)]

    @routes.get("/api/approvals/{approval_id}")
    async def show(approval_id: Id) -> Approval:
        return show_approval(await services.approvals.get_approval(approval_id))

    @routes.get("/api/approvals/{approval_id}/review")
    async def review(approval_id: Id) -> Review:
        """What the approval changes and what it means, from the commit that it pins; also of a decided one."""
        return await services.reviews.review(approval_id)

    @routes.get("/api/approvals/{approval_id}/system")
    async def show_system(approval_id: Id) -> SystemChange:
        """Which packages of the agent's system the approval adds, removes or changes, and what that takes.

        Worked out when it is asked for, which may take some minutes. Not found where agents have no systems of their
        own, and for an approval without a commit.
        """
        return await services.system_changes.find(approval_id)

    @routes.post("/api/approvals/{approval_id}/approve")
    async def approve(approval_id: Id) -> Approval:
        """Decides once: a second decision is a conflict and changes nothing."""
        return show_approval(await services.approvals.approve(approval_id))

    @routes.post("/api/approvals/{approval_id}/deny")
    async def deny(approval_id: Id, request: DenyRequest) -> Approval:
        return show_approval(await services.approvals.deny(approval_id, request.reason))


def _add_questions(routes: APIRouter, services: Services) -> None:
    @routes.get("/api/questions")
    async def list_questions(status: QuestionStatus | None = None, everyone: bool = False) -> list[Question]:
        """What agents ask the operator; with `everyone` also what they ask one another."""
        return [show_question(question) for question in await services.questions.list_questions(status, everyone)]

    @routes.get("/api/questions/{question_id}")
    async def get_question(question_id: Id) -> Question:
        """Also one that has ended."""
        return show_question(await services.questions.get_question(question_id))

    @routes.post("/api/questions/{question_id}/answer")
    async def answer(question_id: Id, request: AnswerRequest) -> Question:
        return show_question(await services.questions.answer(question_id, request.options, request.text))

    @routes.post("/api/questions/{question_id}/cancel")
    async def cancel(question_id: Id) -> Question:
        return show_question(await services.questions.cancel(question_id))
