"""Labelled images, decoded, prepared and brought to the network in batches."""

from resnets.data.dataset import Dataset as Dataset
from resnets.data.dataset import Division as Division
from resnets.data.dataset import divide as divide
from resnets.data.sources import open_dataset as open_dataset
