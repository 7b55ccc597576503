"""The curriculum as state: the pool of every prompt's attempts, the draws made from it, and when a stage is over."""
