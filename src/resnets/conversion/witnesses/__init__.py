"""Other libraries as witnesses: each says what logits it gets from a file, in a process of its own."""
