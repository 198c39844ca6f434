"""Programs that stand in for what a test or a rehearsal cannot have: they speak the real protocols."""
