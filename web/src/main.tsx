import "./style/base.css";
import "./style/controls.css";
import "./style/frame.css";
import "./style/sections.css";
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
import { AgentPage } from "./pages/agent.tsx";
import { DashboardPage } from "./pages/dashboard.tsx";
import { LoginPage } from "./pages/login.tsx";
import { route, startRouting } from "./route.ts";
import { startClock } from "./time.ts";
import { createTranscriptFeed } from "./transcript/feed.ts";

const app = createApp();

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
  render(
    <AppContext.Provider value={app}>
      <Pages />
      <Toaster />
    </AppContext.Provider>,
    root,
  );
}
