"""Weights from one ecosystem to another, with proof."""

from resnets.conversion.converting import convert as convert
