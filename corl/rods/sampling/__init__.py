"""Questions drawn from a graph, each with the proof that one option is right."""
