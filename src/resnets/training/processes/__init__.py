"""One process or many: who they are, what they tell each other, and norms that see the batch of all."""
