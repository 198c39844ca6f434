import "./style/base.css";
import "./style/controls.css";
import "./style/frame.css";
import "./style/sections.css";
import "./style/messages.css";
import "./style/notifications.css";
import "./style/review.css";
import "./style/config.css";
import "./style/files.css";
import "./style/transcript.css";
import "./style/agent.css";
import "./style/terminal.css";
import "./style/palette.css";
import "./style/programs.css";
import "./style/audit.css";
import "./style/quotas.css";
import { type ComponentChildren, render } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { Keyboard } from "./components/keyboard.tsx";
import { Link } from "./components/link.tsx";
import { Toaster } from "./components/toaster.tsx";
import { AppContext, createApp } from "./context.ts";
import { startLive } from "./live.ts";
import { createNotifications, NotificationsContext } from "./notifications.ts";
import { createBrowser, installWorker } from "./notifications_browser.ts";
import { AgentPage } from "./pages/agent.tsx";
import { ApprovalPage, QuestionPage } from "./pages/asked.tsx";
import { AuditPage } from "./pages/audit.tsx";
import { DashboardPage } from "./pages/dashboard.tsx";
import { LoginPage } from "./pages/login.tsx";
import { ProgramsPage } from "./pages/programs.tsx";
import { StatsPage } from "./pages/stats.tsx";
import { ThreadPage } from "./pages/thread.tsx";
import { keepPresses } from "./press.ts";
import { navigate, type Route, route, startRouting } from "./route.ts";
import { startClock } from "./time.ts";
import { createTranscriptFeed } from "./transcript/feed.ts";

const app = createApp();
const notifications = createNotifications(app.store.api, createBrowser());

function Pages() {
  if (app.signedOut.value) return <LoginPage />;
  const at = route.value;
  if (at.page === "agent") return <LiveAgent key={at.name} name={at.name} />;
  if (at.page !== "unknown") return <Live>{renderPage(at)}</Live>;
  return (
    <main class="login">
      <h1>there is nothing here</h1>
      <Link to="/">back to the hive</Link>
    </main>
  );
}

/** The pages about the whole hive share one connection, so that going from one to another is at once. */
function Live({ children }: { children: ComponentChildren }) {
  useEffect(() => startLive(app), []);
  return children;
}

function renderPage(at: Exclude<Route, { page: "unknown" | "agent" }>) {
  if (at.page === "approval") return <ApprovalPage key={at.id} id={at.id} />;
  if (at.page === "question") return <QuestionPage key={at.id} id={at.id} />;
  if (at.page === "thread") return <ThreadPage key={at.id} id={at.id} />;
  if (at.page === "stats") return <StatsPage agent={at.agent} />;
  if (at.page === "programs") return <ProgramsPage />;
  if (at.page === "audit") return <AuditPage />;
  return <DashboardPage />;
}

function LiveAgent({ name }: { name: string }) {
  const feed = useMemo(() => createTranscriptFeed(app.store.api, name), [name]);
  useEffect(() => startLive({ ...app, agent: name, transcript: feed }), [name, feed]);
  return <AgentPage name={name} feed={feed} />;
}

/** Nothing is to be gone to or done before the login. */
const Overlays = () => (app.signedOut.value ? null : <Keyboard />);

const root = document.getElementById("app");
if (root) {
  startClock();
  startRouting();
  keepPresses(document);
  void installWorker();
  notifications.watch(app.store);
  notifications.onOpen((link) => {
    // Whoever clicked wants to be there, even if this tab was left in the middle of a text; the text stays.
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    navigate(link);
  });
  render(
    <AppContext.Provider value={app}>
      <NotificationsContext.Provider value={notifications}>
        <Pages />
        <Overlays />
      </NotificationsContext.Provider>
      <Toaster />
    </AppContext.Provider>,
    root,
  );
}
