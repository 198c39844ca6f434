"""Stats: what agents did and what it cost, counted by the minute, kept in three resolutions."""
