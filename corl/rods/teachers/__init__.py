"""Language models that label, grade and write: a remote endpoint, a checkpoint of ours, or a stub of a test."""
