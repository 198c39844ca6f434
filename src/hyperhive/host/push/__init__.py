"""Web Push: what needs the operator, told to their browsers while no page is open."""
