import { Footer, Frame } from "../components/frame.tsx";
import { Section } from "../components/section.tsx";
import { Tokens } from "../components/tokens.tsx";
import { Webhooks } from "../components/webhooks.tsx";
import { useTitle } from "../title.ts";

/** What other programs may do here, and what they are told. */
export function ProgramsPage() {
  useTitle("programs · hyperhive");
  return (
    <Frame heading="programs">
      <Section title="webhooks" leet="W3BH00KS" testId="webhooks">
        <Webhooks />
      </Section>
      <Section title="API tokens" leet="4PI T0K3NS" testId="tokens">
        <Tokens />
      </Section>
      <Footer />
    </Frame>
  );
}
