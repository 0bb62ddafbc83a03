"""How fast, how much memory: measurements of the runtime, reported and not asserted."""
