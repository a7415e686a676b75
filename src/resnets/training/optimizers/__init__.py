"""What moves the weights: optimizers, the schedule of the learning rate, the average of the weights."""
