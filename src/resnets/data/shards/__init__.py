"""Tar shards in WebDataset's layout: opened by an index, and packed from any dataset."""

from resnets.data.shards.addresses import names_shards as names_shards
from resnets.data.shards.opening import open_shards as open_shards
from resnets.data.shards.packing import Packed as Packed
from resnets.data.shards.packing import pack as pack
