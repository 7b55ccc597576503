"""The two loops (sft, grpo) and what they share: packed batches, the sharded update, its guard."""
