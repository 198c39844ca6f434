"""The contracts between our programs: what may be said on each socket, and how."""
