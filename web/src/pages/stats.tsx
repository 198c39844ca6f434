import { Footer, Frame } from "../components/frame.tsx";
import { Section } from "../components/section.tsx";
import { Stats, StatsNav } from "../components/stats.tsx";
import { Inline } from "../components/text.tsx";
import { useApp } from "../context.ts";
import { EVERYONE } from "../store.ts";
import { useTitle } from "../title.ts";

/** What an agent, or EVERYONE, did and what it cost. */
export function StatsPage({ agent }: { agent: string }) {
  const { store } = useApp();
  const who = agent === EVERYONE ? "the hive" : agent;
  useTitle(`stats of ${who} · hyperhive`);
  return (
    <Frame
      heading={
        <>
          stats of <Inline text={who} />
        </>
      }
    >
      <StatsNav agents={store.agents.keys.value} at={agent} />
      <Section title="stats" leet="ST4TS" testId="stats-page">
        <Stats key={agent} agent={agent} />
      </Section>
      <Footer />
    </Frame>
  );
}
