import { Audit } from "../components/audit.tsx";
import { Footer, Frame } from "../components/frame.tsx";
import { Section } from "../components/section.tsx";
import { useTitle } from "../title.ts";

/** Who did what. */
export function AuditPage() {
  useTitle("audit · hyperhive");
  return (
    <Frame heading="audit">
      <Section title="who did what" leet="WH0 D1D WH4T" testId="audit">
        <Audit />
      </Section>
      <Footer />
    </Frame>
  );
}
