"""Scripts that run inside a peer's own environment, by path: they import that peer and nothing of gmrt.

Each prints one JSON object as its last line, in the figures that `gmrt.benchmarks.peers.ours` names, in seconds.
"""
