"""The rollout engine: groups of completions from one prompt, sampled inside the training process."""
