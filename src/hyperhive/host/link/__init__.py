"""The daemon's end of the agent link: a socket an agent, a connection a harness, a function a method."""
