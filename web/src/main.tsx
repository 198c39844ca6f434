import "./style/base.css";
import "./style/controls.css";
import "./style/frame.css";
import "./style/sections.css";
import "./style/messages.css";
import "./style/notifications.css";
import "./style/review.css";
import "./style/config.css";
import "./style/transcript.css";
import "./style/agent.css";
import { render } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { Link } from "./components/link.tsx";
import { Toaster } from "./components/toaster.tsx";
import { AppContext, createApp } from "./context.ts";
import { startLive } from "./live.ts";
import { createNotifications, NotificationsContext } from "./notifications.ts";
import { createBrowser } from "./notifications_browser.ts";
import { AgentPage } from "./pages/agent.tsx";
import { DashboardPage } from "./pages/dashboard.tsx";
import { LoginPage } from "./pages/login.tsx";
import { navigate, route, startRouting } from "./route.ts";
import { startClock } from "./time.ts";
import { createTranscriptFeed } from "./transcript/feed.ts";

const app = createApp();
const notifications = createNotifications(app.store.api, createBrowser());

function Pages() {
  if (app.signedOut.value) return <LoginPage />;
  const at = route.value;
  if (at.page === "agent") return <LiveAgent key={at.name} name={at.name} />;
  if (at.page === "dashboard") return <LiveDashboard />;
  return (
    <main class="login">
      <h1>there is nothing here</h1>
      <Link to="/">back to the hive</Link>
    </main>
  );
}

function LiveDashboard() {
  useEffect(() => startLive(app), []);
  return <DashboardPage />;
}

function LiveAgent({ name }: { name: string }) {
  const feed = useMemo(() => createTranscriptFeed(app.store.api, name), [name]);
  useEffect(() => startLive({ ...app, agent: name, transcript: feed }), [name, feed]);
  return <AgentPage name={name} feed={feed} />;
}

const root = document.getElementById("app");
if (root) {
  startClock();
  startRouting();
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
      </NotificationsContext.Provider>
      <Toaster />
    </AppContext.Provider>,
    root,
  );
}
