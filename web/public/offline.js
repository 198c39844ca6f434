// Looks whether the hive is back, and then shows what was asked for.
setInterval(async () => {
  const answer = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
  if (answer?.ok) location.reload();
}, 10_000);
