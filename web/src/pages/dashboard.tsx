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
import { useTitle } from "../title.ts";

export function DashboardPage() {
  useTitle("hyperhive");
  return (
    <Frame heading="the hive">
      <NotificationRow />
      <div class="dashboard" data-testid="dashboard">
        <div class="column">
          <Needs />
          <Containers />
          <Kept />
          <Drafts />
          <Questions />
          <Inbox />
          <Approvals />
        </div>
        <div class="column">
          <Flow />
        </div>
      </div>
      <Footer />
    </Frame>
  );
}
