"""The lifecycle on drivers that misbehave: whatever they do, the row of an agent tells the truth."""
