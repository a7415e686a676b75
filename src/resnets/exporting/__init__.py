"""Exporting: a model as the file of another runtime, with proof that it predicts the same."""

from resnets.exporting.making import export as export
from resnets.exporting.verification import read_certificate as read_certificate
from resnets.exporting.verification import verify as verify
