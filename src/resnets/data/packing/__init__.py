"""Shards written: any dataset packed as tar files in WebDataset's layout."""

from resnets.data.packing.packing import Packed as Packed
from resnets.data.packing.packing import pack as pack
