"""Weights from elsewhere: read safely, and brought to our names."""

from resnets.weights.foreign import read_weights as read_weights
