import { useEffect } from "preact/hooks";
import { Approvals } from "../components/approvals.tsx";
import { Containers } from "../components/containers.tsx";
import { Drafts } from "../components/drafts.tsx";
import { Flow } from "../components/flow.tsx";
import { Footer, Frame } from "../components/frame.tsx";
import { Inbox } from "../components/inbox.tsx";
import { Kept } from "../components/kept.tsx";
import { Questions } from "../components/questions.tsx";
import { useApp } from "../context.ts";

export function DashboardPage() {
  const { store } = useApp();
  const waiting =
    store.approvals.rows().filter((row) => row.status === "pending").length +
    store.questions.rows().filter((row) => row.status === "open").length;
  useEffect(() => {
    document.title = waiting > 0 ? `(${waiting}) hyperhive` : "hyperhive";
  }, [waiting]);
  return (
    <Frame heading="the hive">
      <div class="dashboard" data-testid="dashboard">
        <div class="column">
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
