import { useComputed, useSignal } from "@preact/signals";
import { Approvals } from "../components/approvals.tsx";
import { Containers } from "../components/containers.tsx";
import { Drafts } from "../components/drafts.tsx";
import { Flow } from "../components/flow.tsx";
import { Footer, Frame } from "../components/frame.tsx";
import { Inbox } from "../components/inbox.tsx";
import { Kept } from "../components/kept.tsx";
import { Needs } from "../components/needs.tsx";
import { NotificationRow } from "../components/notifications.tsx";
import { Questions } from "../components/questions.tsx";
import { useApp } from "../context.ts";
import { useSectionLink } from "../sections.ts";
import { useTitle } from "../title.ts";

export function DashboardPage() {
  useTitle("hyperhive");
  const { store } = useApp();
  const optional = [store.kept, store.drafts, store.questions].map((table) => table.keys.value.length > 0);
  useSectionLink(`${store.loaded.value} ${optional}`);
  const atQuestions = useSignal(false);
  const atApprovals = useSignal(false);
  const answering = useComputed(() => atQuestions.value || atApprovals.value);
  return (
    <Frame heading="the hive">
      <NotificationRow />
      <div class="dashboard" data-testid="dashboard">
        <div class="column">
          <Needs answering={answering} />
          <Containers />
          <Kept />
          <Drafts />
          <Questions at={atQuestions} />
          <Inbox />
          <Approvals at={atApprovals} />
        </div>
        <div class="column">
          <Flow />
        </div>
      </div>
      <Footer />
    </Frame>
  );
}
