"""A stand-in of the Messages API: a real HTTP program whose model is a list of rules."""
