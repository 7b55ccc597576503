"""Questions: the item file, the prompt made from an item, the tokenizer, and the import of published sets."""
